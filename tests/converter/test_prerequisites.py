"""Tools that a variant needs are asked for before the samples are read, let alone quantised."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import pytest

from converter import errors, prerequisites
from converter.convert import convert
from converter.frontends.sources import Sources, Trees
from converter.prerequisites import require_tools, wants_onnx2tf
from tests.converter.conftest import Inputs

ONNX = Sources("onnx", onnx=b"")


@pytest.mark.parametrize("python", [None, Path(sys.executable)])
def test_onnx2tf_is_asked_for_before_any_work(small: Inputs, python: Path | None) -> None:
    request = small.request(with_tflite=True, onnx2tf_python=python)
    steps: list[str] = []
    with pytest.raises((errors.ExtraMissing, errors.PythonTooOld), match="--onnx2tf-python"):
        convert(request, lambda step, share: steps.append(step))
    assert steps == ["read"]


def test_a_missing_tool_is_told_before_a_missing_file_of_samples(small: Inputs) -> None:
    request = small.request(with_tflite=True, calib=small.folder / "none.npz")
    with pytest.raises(errors.ExtraMissing, match="onnx2tf"):
        convert(request)


def test_the_interpreter_alone_asks_for_tflite_too(small: Inputs) -> None:
    request = small.request(onnx2tf_python=small.folder / "python")
    with pytest.raises(errors.ExtraMissing, match="does not run as a Python"):
        require_tools(request, ONNX)


def test_the_quantiser_is_asked_for(small: Inputs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prerequisites, "_QUANTISER", "a_quantiser_that_is_not_there")
    with pytest.raises(errors.ExtraMissing, match=r"pip install 'outrider\[tflite\]'"):
        require_tools(small.request(with_tflite=True), ONNX)


def test_what_asks_for_no_tflite_needs_nothing(
    small: Inputs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prerequisites, "_QUANTISER", "a_quantiser_that_is_not_there")
    require_tools(small.request(), ONNX)
    assert not wants_onnx2tf(small.request(), ONNX)


def test_trees_have_no_tflite_form_and_need_no_tool(small: Inputs) -> None:
    sources = replace(ONNX, trees=Trees(averaged=True))
    require_tools(small.request(with_tflite=True), sources)
