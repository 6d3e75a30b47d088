"""`outrider convert --report`: the bundle's report beside it, the same bundle either way."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from model.archive import open_bundle
from outrider.__main__ import main
from tests.converter import models


@pytest.fixture
def arguments(tmp_path: Path) -> list[str]:
    """A conversion of a small trained classifier."""
    model = models.save(tmp_path / "small.onnx", models.classifier())
    calib = models.save_samples(tmp_path / "calib.npz", image=models.images(40, seed=5))
    evaluation = models.save_samples(
        tmp_path / "eval.npz", image=models.images(60, seed=11), labels=models.kinds(60)
    )
    files = ["--calib", str(calib), "--eval", str(evaluation)]
    return ["convert", str(model), *files, "--family", "kinds", "--version", "1"]


def test_the_report_and_the_bundle_have_this_hosts_latency(
    arguments: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with_report, without = tmp_path / "a.bundle", tmp_path / "b.bundle"
    folder = tmp_path / "report"
    assert main([*arguments, "-o", str(with_report), "--report", str(folder)]) == 0
    assert main([*arguments, "-o", str(without)]) == 0
    assert with_report.read_bytes() == without.read_bytes()
    found = json.loads((folder / "report.json").read_bytes())
    (variant,) = found["variants"]
    assert set(variant["latency"]) == {"p50_ms", "p50_ms_float32"}
    assert b"Latency on the host that converted" in (folder / "report.html").read_bytes()
    with open_bundle(with_report) as bundle:
        files = {ref.path: bundle.read(ref) for ref in bundle.manifest.hub_files}
        (shipped,) = bundle.manifest.variants
    assert files == {path.name: path.read_bytes() for path in folder.iterdir()}
    assert {name: shipped.evidence[name] for name in variant["latency"]} == variant["latency"]
    assert "outrider inspect" in capsys.readouterr().err


def test_inspect_shows_what_the_conversion_measured(
    arguments: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle = tmp_path / "kinds.bundle"
    assert main([*arguments, "-o", str(bundle)]) == 0
    capsys.readouterr()
    assert main(["inspect", str(bundle)]) == 0
    assert "at most 1 point lower" in capsys.readouterr().out
    assert main(["inspect", str(bundle), "--json"]) == 0
    report = json.loads(capsys.readouterr().out)["report"]
    (variant,) = report["variants"]
    assert len(variant["layers"]) == variant["fusion"]["integer"] + variant["fusion"]["floating"]
    assert variant["confusion"]["classes"] == models.CLASSES
    assert sum(cell[2] for cell in variant["confusion"]["cells"]) == 60
    assert report["coverage"][0]["tensor"] == models.INPUT
    assert any(candidate["chosen"] for candidate in report["candidates"])


def test_a_report_that_cannot_be_written_is_refused_before_there_is_a_bundle(
    arguments: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle, file = tmp_path / "kinds.bundle", tmp_path / "calib.npz"
    for folder in (file, file / "report"):
        assert main([*arguments, "-o", str(bundle), "--report", str(folder)]) == 1
        assert "choose another --report" in " ".join(capsys.readouterr().err.split())
    assert not bundle.exists()
    absent = tmp_path / "a" / "b"
    assert main([*arguments, "-o", str(bundle), "--report", str(absent)]) == 0
    assert (absent / "report.html").exists()
