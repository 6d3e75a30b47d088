"""The report's files: the bundle's hold no moment, the pair beside it does."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from converter.errors import OutputUnwritable
from converter.page import Timing, render
from converter.report import decode_report
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
