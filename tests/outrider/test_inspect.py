"""`outrider inspect` on real and on strange bundles."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest

from contract.manifest import Manifest
from converter.page import render
from converter.report_files import report_files
from model.archive import open_bundle, with_trust, write_bundle
from model.chunks import file_ref
from outrider.__main__ import main
from tests.converter.page.reports import full
from tests.model.builders import bundle, release


@pytest.fixture(autouse=True)
def wide(monkeypatch: pytest.MonkeyPatch) -> None:
    """A terminal that holds the whole table."""
    monkeypatch.setenv("COLUMNS", "200")


def reported(folder: Path, files: dict[str, bytes]) -> Path:
    """A release with these hub files."""
    manifest, rest = release(folder)
    del rest["report.json"]
    refs = [file_ref(path, data, chunked=False) for path, data in files.items()]
    changed: Manifest = msgspec.structs.replace(manifest, hub_files=refs)
    path = folder / "reported.bundle"
    write_bundle(path, changed, {**rest, **files})
    return path


@pytest.fixture
def made(tmp_path: Path) -> Path:
    """A bundle whose report has something of everything."""
    return reported(tmp_path, report_files(full()))


def test_the_evidence_is_shown(made: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", str(made)]) == 0
    shown = capsys.readouterr().out
    for words in (
        "passed: accuracy 98.90 against 99.00",
        "block_5/depthwise_conv2d",
        "15 of 16 layers run in integers; left in float: model/block_9/depthwise_conv2d",
        "2.31 % of evaluation outside",
        "2 candidates, chosen: equalised, percentile 99.99 at 31.4 dB",
        "go as no",
        "onnx-int8: label",
        "no: outrider sign",
        "onnx-int8 50.0 us, float32 200.0 us (0.25 x); tflite-int8 100.0 us",
        "x86_64, 2 CPUs, onnxruntime 1.31.1, 2026-11-20",
    ):
        assert words in shown, words


def test_the_evidence_for_scripts(made: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", str(made), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["report"]["variants"][0]["layers"][5]["sqnr_db"] == pytest.approx(22.5)
    assert found["report"]["confusion_float32"]["classes"] == 12


def test_the_page_is_drawn_from_the_figures(made: Path, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    assert main(["inspect", str(made), "--html", str(page)]) == 0
    assert page.read_bytes() == render(full())
    with open_bundle(made) as opened:
        refs = {ref.path: ref for ref in opened.manifest.hub_files}
        assert opened.read(refs["report.html"]) == page.read_bytes()


def test_a_page_that_a_bundle_brings_is_not_handed_out(tmp_path: Path) -> None:
    files = report_files(full()) | {"report.html": b"<script>alert(1)</script>"}
    page = tmp_path / "page.html"
    assert main(["inspect", str(reported(tmp_path, files)), "--html", str(page)]) == 0
    assert b"<script" not in page.read_bytes()


def test_a_bundle_without_a_readable_report_is_shown_as_far_as_it_goes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = bundle(tmp_path)
    assert main(["inspect", str(path)]) == 0
    shown = capsys.readouterr()
    assert "digits:1" in shown.out
    assert "no evaluation report" in shown.err
    page = tmp_path / "page.html"
    assert main(["inspect", str(path), "--html", str(page)]) == 1
    assert "no report.json that this program reads" in capsys.readouterr().err
    assert not page.exists()


@pytest.mark.parametrize("data", [b"[" * 100_000, b"\xff", b'{"schema":1}', b"null"])
def test_a_strange_report_harms_nothing(
    data: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["inspect", str(reported(tmp_path, {"report.json": data})), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["report"] is None


def test_signatures_are_listed_and_strange_ones_are_by_nobody(
    made: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    metadata = {
        "signatures": [{"keyid": "ab" * 32, "sig": "00"}],
        "signed": {"_type": "targets", "version": 7, "expires": "2027-01-02T03:04:05Z"},
    }
    trust = {"7.digits.json": json.dumps(metadata).encode(), "1.targets.json": b"{}"}
    with_trust(made, made, trust)
    assert main(["inspect", str(made)]) == 0
    shown = capsys.readouterr().out
    assert "7.digits.json by abababababab until 2027-01-02" in shown
    assert "1.targets.json by nobody" in shown


def test_colour_codes_in_a_label_do_not_reach_the_terminal(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    report = msgspec.structs.replace(full(), labels=["\x1b[31m[bold]\x07"] * 12)
    assert main(["inspect", str(reported(tmp_path, report_files(report)))]) == 0
    shown = capsys.readouterr().out
    assert "\x1b" not in shown
    assert "[bold]" in shown
