"""The report's files: the bundle's hold no moment, the pair beside it does."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from converter.errors import OutputUnwritable
from converter.page import Timing, render
from converter.report import EvaluationReport, decode_report
from converter.report_files import report_files, write_full_report, write_page
from tests.converter.page.reports import bare, full

TIMING = Timing("x86_64, 2 CPUs", (("float32", 0.2), ("onnx-int8", 0.05)))


def test_the_bundles_files_depend_on_the_report_alone() -> None:
    assert report_files(full()) == report_files(full())
    assert list(report_files(full())) == ["report.html", "report.json"]
    assert all(b"_ms" not in data for data in report_files(full()).values())


def test_the_figures_come_back_from_the_json() -> None:
    assert decode_report(report_files(full())["report.json"]) == full()


def test_a_report_of_before_the_pictures_is_still_read() -> None:
    old = json.loads(report_files(bare())["report.json"])
    for name in ("labels", "variants", "candidates", "coverage", "confusion_float32"):
        del old[name]
    assert decode_report(json.dumps(old).encode()) == bare()


def test_the_pair_beside_the_bundle_has_this_hosts_latency(tmp_path: Path) -> None:
    folder = tmp_path / "deep" / "report"
    write_full_report(folder, full(), TIMING)
    assert sorted(path.name for path in folder.iterdir()) == ["report.html", "report.json"]
    found = json.loads((folder / "report.json").read_bytes())
    assert found["latency_p50_ms"] == {"float32": 0.2, "onnx-int8": 0.05}
    assert found["host"] == "x86_64, 2 CPUs"
    assert decode_report((folder / "report.json").read_bytes()) == full()
    assert (folder / "report.html").read_bytes() == render(full(), TIMING)


def test_an_older_pair_is_replaced(tmp_path: Path) -> None:
    write_full_report(tmp_path, bare(), TIMING)
    write_full_report(tmp_path, full(), TIMING)
    assert b"onnx-int8" in (tmp_path / "report.html").read_bytes()
    assert len(list(tmp_path.iterdir())) == 2


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(OutputUnwritable, match="choose another --report"):
        write_full_report(tmp_path / "file", full(), TIMING)
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
