"""Integer inputs and outputs: pairs stripped, nothing rounded twice, nothing float left."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from contract.manifest import Quantisation
from converter.audit import audit
from converter.boundary import IntegerModel, integer_boundary, require_integers
from converter.compact import compact
from converter.errors import FloatBoundary
from converter.quantise import quantise
from converter.ranges import Range
from converter.samples import Samples
from tests.converter import models
from tests.converter.calibrated import inferred, plain_ranges
from tests.converter.quantisation.networks import chain

CALIBRATION = Samples("calib.npz", {"image": models.images(40)})


@dataclass(frozen=True)
class Pair:
    """The int8 model with a float boundary and the one with integers."""

    float_io: onnx.ModelProto
    made: IntegerModel


def both(model: onnx.ModelProto) -> Pair:
    ranges = plain_ranges(model, CALIBRATION)
    quantised, _ = quantise(model, ranges)
    return Pair(quantised, integer_boundary(quantised, ranges))


def run(pair: Pair, images: models.Array) -> models.Array:
    """The integer model's answers in real units."""
    (name,) = [value.name for value in pair.made.model.graph.output]
    steps = to_steps(images, pair.made.quantisation["image"])
    (answers,) = models.run(compact(pair.made.model), image=steps)
    assert answers.dtype == np.uint8
    meaning = pair.made.quantisation[name]
    return np.asarray((answers.astype(np.float64) - meaning.zero_point) * meaning.scale)


def to_steps(values: models.Array, meaning: Quantisation) -> models.Array:
    steps = np.rint(values / np.float32(meaning.scale)) + meaning.zero_point
    return np.asarray(np.clip(steps, 0, 255), dtype=np.uint8)


def reshaped() -> onnx.ModelProto:
    """`chain`, given as [N, 64] and answering [N, 2, 2]."""
    made = chain()
    made.graph.input[0].CopyFrom(models.tensor("flat", "N", 64))
    made.graph.output[0].CopyFrom(models.tensor("square", "N", 2, 2))
    for name, dims in (("in.shape", (-1, 1, 8, 8)), ("out.shape", (-1, 2, 2))):
        values = np.asarray(dims, np.int64)
        made.graph.initializer.append(onnx.numpy_helper.from_array(values, name))
    made.graph.node.insert(0, helper.make_node("Reshape", ["flat", "in.shape"], ["image"]))
    made.graph.node.append(helper.make_node("Reshape", ["scores", "out.shape"], ["square"]))
    made.graph.ClearField("value_info")
    return inferred(made)


def test_inputs_and_outputs_are_uint8_under_their_names() -> None:
    graph = both(chain()).made.model.graph
    for value, name in zip((*graph.input, *graph.output), ("image", "scores"), strict=True):
        assert (value.name, value.type.tensor_type.elem_type) == (name, TensorProto.UINT8)


def test_the_pairs_at_the_boundary_are_gone() -> None:
    pair = both(chain())
    before = [node.op_type for node in pair.float_io.graph.node]
    after = [node.op_type for node in pair.made.model.graph.node]
    assert after.count("QuantizeLinear") == before.count("QuantizeLinear") - 1
    assert after.count("DequantizeLinear") == before.count("DequantizeLinear") - 1


def test_the_answers_are_the_same_to_the_last_step() -> None:
    pair, images = both(chain()), models.images(30, seed=8)
    (wanted,) = models.run(pair.float_io, image=images)
    np.testing.assert_allclose(run(pair, images), wanted, atol=1e-5)


def test_every_layer_still_runs_in_integers(tmp_path: Path) -> None:
    pair = both(chain())
    assert audit(compact(pair.made.model), tmp_path) == audit(compact(pair.float_io), tmp_path)


def test_a_softmax_answers_in_256_steps() -> None:
    pair = both(inferred(models.classifier(norm=False)))
    assert pair.made.quantisation["scores"] == Quantisation(scale=1 / 256, zero_point=0)
    images = models.images(30, seed=8)
    (wanted,) = models.run(pair.float_io, image=images)
    found = run(pair, images)
    np.testing.assert_allclose(found, wanted, atol=1 / 250)
    np.testing.assert_array_equal(found.argmax(axis=1), wanted.argmax(axis=1))


def test_operators_that_only_move_values_are_hopped_over() -> None:
    model = reshaped()
    calibration = Samples("c", {"flat": models.images(40).reshape(40, 64)})
    ranges = plain_ranges(model, calibration)
    quantised, _ = quantise(model, ranges, keep_float=["Reshape:square"])
    made = integer_boundary(quantised, ranges)
    graph = made.model.graph
    assert [node.op_type for node in graph.node if "flat" in node.input] == ["Reshape"]
    assert [node.op_type for node in graph.node if "square" in node.output] == ["Reshape"]
    given = models.images(20, seed=4).reshape(20, 64)
    (wanted,) = models.run(quantised, flat=given)
    (steps,) = models.run(compact(made.model), flat=to_steps(given, made.quantisation["flat"]))
    meaning = made.quantisation["square"]
    found = (steps.astype(np.float64) - meaning.zero_point) * meaning.scale
    np.testing.assert_allclose(found, wanted, atol=1e-5)


def test_an_input_that_is_used_as_float_gets_a_conversion() -> None:
    model = chain()
    ranges = plain_ranges(model, CALIBRATION)
    quantised, _ = quantise(model, ranges, keep_float=["Conv:c1", "Relu:r1"])
    made = integer_boundary(quantised, ranges)
    assert made.quantisation["image"].scale == pytest.approx(ranges["image"].high / 255)
    images = models.images(10, seed=8)
    (wanted,) = models.run(quantised, image=images)
    assert np.abs(run(Pair(quantised, made), images) - wanted).max() < 0.05 * np.ptp(wanted)


def test_the_float_model_is_not_touched() -> None:
    model = chain()
    ranges = plain_ranges(model, CALIBRATION)
    quantised, _ = quantise(model, ranges)
    before = quantised.SerializeToString()
    integer_boundary(quantised, ranges)
    assert quantised.SerializeToString() == before


def test_integer_inputs_stay_what_they_are() -> None:
    nodes = [
        helper.make_node("Gather", ["table", "ids"], ["rows"]),
        helper.make_node("Gemm", ["rows", "w"], ["y"]),
    ]
    made = models.model(
        nodes,
        [models.tensor("ids", "N", kind=TensorProto.INT64)],
        [models.tensor("y", "N", 2)],
        [models.weight("table", 9, 4), models.weight("w", 4, 2)],
    )
    found = integer_boundary(inferred(made), {"y": Range(-1.0, 1.0)})
    assert found.model.graph.input[0].type.tensor_type.elem_type == TensorProto.INT64
    assert set(found.quantisation) == {"y"}


def test_a_boundary_without_a_range_is_refused_by_name() -> None:
    with pytest.raises(FloatBoundary, match="'image' has no calibrated range"):
        integer_boundary(chain(), {})


def test_a_boundary_that_is_float_after_all_is_refused_by_name() -> None:
    with pytest.raises(FloatBoundary, match="'image' is still float32"):
        require_integers(chain())
