"""onnx2tf runs in an environment of its own, or a message says how to make one.

OUTRIDER_ONNX2TF_PYTHON names the interpreter of such an environment, for the tests that need it.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import numpy as np
import pytest

from converter import errors
from converter.canonical import canonicalise
from converter.compact import compact
from converter.frontends.onnx2tf import to_tflite
from converter.frontends.sources import SourceOptions
from converter.samples import Samples
from converter.sessions import Runner
from converter.source import SourceModel, read_source
from converter.tflite.int8 import make_tflite_int8
from converter.tflite.runner import TfliteRunner
from tests.converter import models
from tests.converter.conftest import Inputs

PYTHON = os.environ.get("OUTRIDER_ONNX2TF_PYTHON")
KWS = os.environ.get("OUTRIDER_KWS_DATA")
needs_onnx2tf = pytest.mark.skipif(PYTHON is None, reason="OUTRIDER_ONNX2TF_PYTHON is not set")


def folded(source: SourceModel, work: Path) -> bytes:
    return compact(canonicalise(source, work))


def attempt(small: Inputs, python: Path | None) -> None:
    source = read_source(small.model)
    samples = Samples("few", {models.INPUT: models.images(8)})
    options = SourceOptions(onnx2tf_python=python)
    to_tflite(source, small.model.read_bytes(), samples, options)


def fake(folder: Path, answer: str) -> Path:
    """An interpreter that gives this answer to the probe, and fails at anything else."""
    path = folder / "python"
    path.write_text(f"#!/bin/sh\n[ \"$2\" = -c ] || exit 9\necho '{answer}'\n")
    path.chmod(0o755)
    return path


def test_without_an_interpreter_the_message_says_how_to_get_one(small: Inputs) -> None:
    with pytest.raises(errors.ExtraMissing, match=r"python3\.12 -m venv.*onnx2tf==2\.6\.9"):
        attempt(small, None)


def test_an_older_python_is_told_its_version(small: Inputs, tmp_path: Path) -> None:
    with pytest.raises(errors.PythonTooOld, match=r"Python 3\.11, onnx2tf 2\.6\.9 needs 3\.12"):
        attempt(small, fake(tmp_path, '[[3, 11], ""]'))


def test_this_very_python_lacks_onnx2tf(small: Inputs) -> None:
    with pytest.raises((errors.ExtraMissing, errors.PythonTooOld), match="--onnx2tf-python"):
        attempt(small, Path(sys.executable))


def test_another_version_of_onnx2tf_is_refused(small: Inputs, tmp_path: Path) -> None:
    with pytest.raises(errors.ExtraMissing, match=r"has onnx2tf 1\.29\.24"):
        attempt(small, fake(tmp_path, '[[3, 12], "1.29.24"]'))


@pytest.mark.parametrize("answer", ["", "hello", "[1]"])
def test_what_is_no_python_at_all(answer: str, small: Inputs, tmp_path: Path) -> None:
    with pytest.raises(errors.ExtraMissing, match="does not run as a Python"):
        attempt(small, fake(tmp_path, answer))


def test_a_crash_of_onnx2tf_is_an_error_and_leaves_the_input_alone(
    small: Inputs, tmp_path: Path
) -> None:
    before = small.model.read_bytes()
    with pytest.raises(errors.FrontendCrashed, match="status 9"):
        attempt(small, fake(tmp_path, '[[3, 12], "2.6.9"]'))
    assert small.model.read_bytes() == before


@needs_onnx2tf
def test_the_tflite_model_answers_like_the_onnx_model(small: Inputs, tmp_path: Path) -> None:
    source, before = read_source(small.model), small.model.read_bytes()
    samples = Samples("few", {models.INPUT: models.images(40)})
    options = SourceOptions(onnx2tf_python=Path(str(PYTHON)))
    made = to_tflite(source, folded(source, tmp_path), samples, options)
    assert [(spec.name, spec.shape) for spec in made.inputs] == [(models.INPUT, [-1, 1, 8, 8])]
    (one,) = Runner(before).run(samples).values()
    (other,) = TfliteRunner(made.data).run(samples).values()
    assert np.abs(one - other).max() < 1e-4
    assert small.model.read_bytes() == before


@needs_onnx2tf
@pytest.mark.skipif(KWS is None, reason="OUTRIDER_KWS_DATA is not set")
def test_keyword_spotting_keeps_its_layout_and_accuracy(tmp_path: Path) -> None:
    source = read_source(Path(str(KWS)) / "float32.onnx")
    with np.load(Path(str(KWS)) / "samples.npz", allow_pickle=False) as file:
        features = (file["features_int8"].astype(np.float32) - 83) * np.float32(0.5847029089927673)
        labels = file["labels"]
    samples = Samples("kws", {"input_1": features[..., np.newaxis]})
    options = SourceOptions(onnx2tf_python=Path(str(PYTHON)))
    made = to_tflite(source, folded(source, tmp_path), samples, options)
    assert made.inputs[0].shape == [-1, 49, 10, 1]
    (answers,) = TfliteRunner(made.data).run(samples).values()
    assert (answers.argmax(axis=1) == labels).mean() >= 0.912
    int8 = make_tflite_int8(made, samples.take(slice(0, 100)), lambda share: None).data
    (integers,) = TfliteRunner(int8).run(samples).values()
    assert (integers.argmax(axis=1) == labels).mean() >= 0.910
    assert (integers.argmax(axis=1) == answers.argmax(axis=1)).mean() >= 0.985
    assert len(int8) <= 37_000
