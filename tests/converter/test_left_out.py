"""What the TFLite tool cannot make: a candidate is left out, a variant only where nobody asked."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import onnx
import pytest

from converter import convert as pipeline
from converter import errors
from converter.convert import convert
from converter.frontends.loading import open_model
from converter.tflite import int8
from converter.tflite.source import check_tflite
from tests.converter import models as onnx_models
from tests.converter.conftest import Inputs
from tests.converter.test_variants import samples, twin
from tests.converter.tflite import models


def test_a_network_with_constants_between_its_layers_is_converted(tmp_path: Path) -> None:
    path = models.save(tmp_path / "scans.tflite", models.normalised())
    made = convert(Inputs(path, *samples(tmp_path, "image"), tmp_path).request())
    assert made.report.gate.passed
    assert len(made.report.candidates) == 2
    (note,) = [said for said in made.notes if "OCTAV" in said]
    assert note in made.report.quantiser.notes


def test_without_search_no_candidate_is_reported(tmp_path: Path) -> None:
    path = models.save(tmp_path / "scans.tflite", models.normalised())
    made = convert(Inputs(path, *samples(tmp_path, "image"), tmp_path).request(search=False))
    assert (made.report.candidates, made.report.quantiser.notes) == ([], [])
    assert made.report.quantiser.ranges == "minimum and maximum"


def _by_octav_alone(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Inputs:
    """Both forms at hand, and no candidate that suits the TFLite one."""

    def opened(path: Path, calib: Path, options: object) -> object:
        found = open_model(path, calib, options)  # type: ignore[arg-type]  # handed through
        form = check_tflite(models.normalised(), "scans.keras")
        return replace(found, sources=replace(found.sources, tflite=form))

    monkeypatch.setattr(pipeline, "open_model", opened)
    monkeypatch.setattr(int8, "CANDIDATES", int8.CANDIDATES[2:])
    path = onnx_models.save(folder / "digits.onnx", onnx.load_from_string(twin()))
    return Inputs(path, *samples(folder, "picture"), folder)


def test_a_tflite_form_that_nobody_asked_for_is_left_out_where_it_cannot_be_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = convert(_by_octav_alone(tmp_path, monkeypatch).request())
    assert [variant.name for variant in made.manifest.variants] == ["onnx-int8"]
    (note,) = [said for said in made.notes if "tflite-int8 is left out" in said]
    assert "onnx-int8 ships without it: scans.keras: ai-edge-quantizer failed" in note
    assert note in made.report.quantiser.notes


def test_a_tflite_form_that_was_asked_for_and_cannot_be_made_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    request = _by_octav_alone(tmp_path, monkeypatch).request(with_tflite=True)
    with pytest.raises(errors.QuantisationFailed, match=r"scans\.keras.*OCTAV"):
        convert(request)
    assert not request.output.exists()
