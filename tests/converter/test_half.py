"""The float16 variant: as good as float32, half as large, and refused where it would overflow."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from converter import errors
from converter.canonical import canonicalise
from converter.evaluate import compare
from converter.half import make_half, refuse_large_activations, refuse_large_weights
from converter.outputs import find_classes, output_specs
from converter.samples import Samples
from converter.sessions import Runner
from converter.source import read_source
from tests.converter import models

SAMPLES = Samples("calib", {"image": models.images(40, seed=5)})


@pytest.fixture
def canonical(tmp_path: Path) -> onnx.ModelProto:
    source = read_source(models.save(tmp_path / "small.onnx", models.classifier()))
    return canonicalise(source, tmp_path)


def test_it_answers_as_the_float_model(canonical: onnx.ModelProto) -> None:
    reference = Runner(canonical.SerializeToString()).run(SAMPLES)
    answers = Runner(make_half(canonical, SAMPLES, -1)).run(SAMPLES)
    classes = find_classes(output_specs(reference, -1), ())
    found = compare(reference, answers, None, classes)
    assert found.agreement == 100
    assert found.sqnr_db > 40


def test_its_boundary_stays_float32(canonical: onnx.ModelProto) -> None:
    made = onnx.load_from_string(make_half(canonical, SAMPLES, -1))
    for value in (*made.graph.input, *made.graph.output):
        assert value.type.tensor_type.elem_type == onnx.TensorProto.FLOAT


def test_its_weights_are_half_as_large(canonical: onnx.ModelProto) -> None:
    made = onnx.load_from_string(make_half(canonical, SAMPLES, -1))
    floats = [t for t in made.graph.initializer if t.data_type == onnx.TensorProto.FLOAT]
    halves = [t for t in made.graph.initializer if t.data_type == onnx.TensorProto.FLOAT16]
    assert not floats
    assert len(halves) >= 6


def test_the_same_model_gives_the_same_bytes(canonical: onnx.ModelProto) -> None:
    assert make_half(canonical, SAMPLES, -1) == make_half(canonical, SAMPLES, -1)


def test_the_model_that_went_in_is_not_changed(canonical: onnx.ModelProto) -> None:
    before = canonical.SerializeToString()
    make_half(canonical, SAMPLES, -1)
    assert canonical.SerializeToString() == before


def test_a_weight_beyond_float16_is_named(canonical: onnx.ModelProto) -> None:
    models.replace_weight(canonical, "c2.w", np.full((12, 6, 3, 3), 7e4, np.float32))
    with pytest.raises(errors.BeyondHalf, match=r"weight 'c2\.w' reaches 7e\+04"):
        refuse_large_weights(canonical)


def test_an_activation_beyond_float16_is_named() -> None:
    nodes = [
        helper.make_node("Mul", ["x", "k"], ["huge"]),
        helper.make_node("Div", ["huge", "k"], ["y"]),
    ]
    made = models.model(
        nodes,
        [models.tensor("x", "N", 3)],
        [models.tensor("y", "N", 3)],
        [numpy_helper.from_array(np.array([5e4], np.float32), "k")],
    )
    samples = Samples("calib", {"x": models.rng().random((5, 3), dtype=np.float32) + 1})
    with pytest.raises(errors.BeyondHalf, match="activation 'huge'"):
        refuse_large_activations(made, samples, -1)
    refuse_large_weights(made)


def test_a_model_that_does_not_run_is_named() -> None:
    made = models.model(
        [helper.make_node("Reshape", ["x", "s"], ["y"])],
        [models.tensor("x", "N", 3)],
        [models.tensor("y", "N", 4)],
        [numpy_helper.from_array(np.array([-1, 4]), "s")],
    )
    samples = Samples("calib", {"x": np.ones((1, 3), np.float32)})
    with pytest.raises(errors.ModelFailed):
        refuse_large_activations(made, samples, -1)
