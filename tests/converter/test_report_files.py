"""The report's files: latency is in them, and the pair beside the bundle is the bundle's."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from converter.errors import OutputUnwritable
from converter.page import render
from converter.report import EvaluationReport, decode_report
from converter.report_files import report_files, write_page, write_report
from tests.converter.page.reports import bare, full


def test_the_bundles_files_depend_on_the_report_alone() -> None:
    assert report_files(full()) == report_files(full())
    assert list(report_files(full())) == ["report.html", "report.json"]


def test_the_figures_come_back_from_the_json() -> None:
    assert decode_report(report_files(full())["report.json"]) == full()


def test_a_report_of_before_the_pictures_is_still_read() -> None:
    old = json.loads(report_files(bare())["report.json"])
    newer = ("labels", "variants", "candidates", "coverage", "confusion_float32", "measurements")
    for name in newer:
        del old[name]
    assert decode_report(json.dumps(old).encode()) == bare()


def test_latency_is_in_both_files() -> None:
    files = report_files(full())
    found = json.loads(files["report.json"])
    timed = [variant["latency"] for variant in found["variants"]]
    assert timed == [
        {"p50_ms": 0.05, "p50_ms_float32": 0.2},
        {"p50_ms": 0.1, "p50_ms_float32": 0.2},
    ]
    assert found["measurements"][0]["host"] == "x86_64, 2 CPUs"
    assert b"Latency on the host that converted" in files["report.html"]


def test_the_pair_beside_the_bundle_is_the_bundles(tmp_path: Path) -> None:
    folder = tmp_path / "deep" / "report"
    write_report(folder, full())
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == report_files(full())


def test_an_older_pair_is_replaced(tmp_path: Path) -> None:
    write_report(tmp_path, bare())
    write_report(tmp_path, full())
    assert b"onnx-int8" in (tmp_path / "report.html").read_bytes()
    assert len(list(tmp_path.iterdir())) == 2


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(OutputUnwritable, match="choose another --report"):
        write_report(tmp_path / "file", full())
    with pytest.raises(OutputUnwritable, match="choose another --html"):
        write_page(tmp_path / "none" / "x.html", full())
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize("count", [-1, 1 << 54, 10**400, 0.5, "9"])
def test_counts_that_cannot_be_reckoned_with_are_refused(count: object) -> None:
    for path in (("figures", "bytes"), ("data", "evaluation_samples")):
        made = json.loads(report_files(full())["report.json"])
        made[path[0]][path[1]] = count
        with pytest.raises(msgspec.MsgspecError):
            decode_report(json.dumps(made).encode())


@given(st.floats(allow_nan=False, allow_infinity=False), st.integers(0, 1 << 40))
def test_any_figures_that_json_can_hold_make_a_page(figure: float, count: int) -> None:
    def turn(value: object) -> object:
        if isinstance(value, bool):
            return value
        if isinstance(value, float):
            return figure
        if isinstance(value, int):
            return count
        if isinstance(value, list):
            return [turn(item) for item in value]
        if isinstance(value, dict):
            return {key: item if key == "schema" else turn(item) for key, item in value.items()}
        return value

    report = msgspec.convert(turn(msgspec.to_builtins(full())), EvaluationReport)
    assert render(decode_report(report_files(report)["report.json"])) == render(report)
