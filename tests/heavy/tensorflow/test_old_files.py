"""Files that TensorFlow 1.15 and Keras 2.2.4 wrote, with old/make.py, are read years later."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from converter.convert import convert
from converter.frontends.opening import open_source
from converter.frontends.sources import SourceOptions
from converter.samples import Samples
from converter.sessions import Runner
from converter.tflite.runner import TfliteRunner
from tests.heavy.digits import images, request

pytestmark = [
    pytest.mark.skipif(
        find_spec("tensorflow") is None, reason="runs in .make/heavy-tf: make test-heavy"
    ),
    pytest.mark.timeout(240),
]
OLD = Path(__file__).parent / "old"
FILES = ("keras-2.2.4.h5", "tensorflow-1.15.h5", "tensorflow-1.15")


@pytest.mark.parametrize("name", FILES)
def test_an_old_file_becomes_both_forms_with_the_right_answers(name: str) -> None:
    made, (shown, kinds) = open_source(OLD / name, SourceOptions()), images(100, 9)
    assert made.onnx is not None
    assert made.tflite is not None
    assert [(spec.name, spec.shape) for spec in made.tflite.inputs] == [("image", [-1, 8, 8, 1])]
    samples = Samples("test", {"image": shown[..., np.newaxis]})
    (one,) = Runner(made.onnx).run(samples).values()
    (other,) = TfliteRunner(made.tflite.data).run(samples).values()
    assert np.abs(one - other).max() < 1e-4
    assert (one.argmax(axis=1) == kinds).mean() > 0.95


@pytest.mark.parametrize("name", FILES)
def test_an_old_file_becomes_a_release_that_says_how_it_was_read(name: str, tmp_path: Path) -> None:
    made = convert(request(OLD / name, tmp_path, -1))
    assert made.manifest.gate.passed
    assert [variant.name for variant in made.manifest.variants] == ["onnx-int8", "tflite-int8"]
    by_keras_2 = any("Keras 2" in note for note in made.report.quantiser.notes)
    assert by_keras_2 == (name == "tensorflow-1.15.h5")
