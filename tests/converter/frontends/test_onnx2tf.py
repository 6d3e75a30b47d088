"""onnx2tf runs in an environment of its own, or a message says how to make one.

What it makes there is looked at in tests/heavy/onnx2tf.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

from converter import errors
from converter.frontends.onnx2tf import PINS, VERSION, to_tflite
from converter.frontends.sources import SourceOptions
from converter.samples import Samples
from converter.source import read_source
from tests.converter import models
from tests.converter.conftest import Inputs


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
    with pytest.raises(
        errors.ExtraMissing, match=r"python3\.12 -m venv.*--require-hashes -r"
    ) as found:
        attempt(small, None)
    assert str(PINS) in str(found.value)


def test_the_pins_are_of_the_version_that_is_asked_for_with_digests() -> None:
    text = PINS.read_text()
    pinned = re.findall(r"^(\S+)==(\S+) \\\n    --hash=sha256:", text, flags=re.M)
    assert ("onnx2tf", VERSION) in pinned
    assert len(pinned) == len(re.findall(r"^[a-z]", text, flags=re.M))


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
