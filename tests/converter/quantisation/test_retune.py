"""Putting other ranges and biases in gives what the quantiser would have made."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from converter.quantisation.calibration import activations, observe, split
from converter.quantisation.correction import correct_biases, rounding_errors
from converter.quantisation.equalisation import (
    carriers,
    equalise,
    equalise_activations,
    open_clips,
)
from converter.quantisation.retune import retune
from converter.quantisation.thresholds import Method, choose_range
from converter.quantise import quantise
from converter.ranges import Range
from tests.converter import models
from tests.converter.quantisation.networks import chain, constant, samples


def ranges(made: onnx.ModelProto, method: Method) -> dict[str, Range]:
    fit, _ = observe(made, samples(), -1, lambda share: None)
    return {name: choose_range(fit.of(name), method) for name in activations(made)}


def with_bias() -> onnx.ModelProto:
    """`chain` with a bias on its last layer, too."""
    made = chain()
    made.graph.initializer.append(models.weight("b3", 4))
    made.graph.node[-1].input.append("b3")
    return made


def numbers(made: onnx.ModelProto) -> dict[str, list[float]]:
    """All constants by name; the ways to write a tensor down are many."""
    return {
        tensor.name: numpy_helper.to_array(tensor).reshape(-1).tolist()
        for tensor in made.graph.initializer
    }


def same(one: onnx.ModelProto, other: onnx.ModelProto) -> bool:
    return list(one.graph.node) == list(other.graph.node) and numbers(one) == numbers(other)


@pytest.mark.parametrize("share", [0.5, 0.93])
def test_other_ranges_give_what_the_quantiser_would(share: float) -> None:
    made = with_bias()
    other = {n: Range(share * r.low, share * r.high) for n, r in ranges(made, "minmax").items()}
    plain, _ = quantise(made, ranges(made, "minmax"))
    wanted, _ = quantise(made, other)
    assert not same(plain, wanted)
    found = retune(plain, made, made, other)
    assert found is not None
    assert same(found, wanted)


def test_other_biases_give_what_the_quantiser_would() -> None:
    made = with_bias()
    fit, _ = split(40)
    corrected = correct_biases(made, rounding_errors(made, samples(), fit, -1))
    plain, _ = quantise(made, ranges(made, "minmax"))
    wanted, _ = quantise(corrected, ranges(made, "minmax"))
    assert not same(plain, wanted)
    found = retune(plain, made, corrected, ranges(made, "minmax"))
    assert found is not None
    assert same(found, wanted)


def test_the_graph_that_went_in_stays() -> None:
    made = with_bias()
    plain, _ = quantise(made, ranges(made, "minmax"))
    before = constant(plain, "r1_scale").copy()
    retune(plain, made, made, ranges(made, "p99.9"))
    assert constant(plain, "r1_scale") == before


def test_a_new_bias_is_a_matter_for_the_quantiser() -> None:
    made = chain()
    fit, _ = split(40)
    plain, _ = quantise(made, ranges(made, "minmax"))
    corrected = correct_biases(made, rounding_errors(made, samples(), fit, -1))
    assert retune(plain, made, corrected, ranges(made, "minmax")) is None


def test_a_range_of_nothing_has_a_scale() -> None:
    made = with_bias()
    flat = {**ranges(made, "minmax"), "r1": Range(0.0, 0.0), "c1": Range(0.0, 0.0)}
    plain, _ = quantise(made, ranges(made, "minmax"))
    wanted, _ = quantise(made, flat)
    found = retune(plain, made, made, flat)
    assert found is not None
    assert same(found, wanted)


@pytest.mark.parametrize("shape", ["weights", "activations"])
def test_other_weights_give_what_the_quantiser_would(shape: str) -> None:
    made = chain(spread=[1 / 16, 1 / 4, 1, 1, 4, 16])
    fit, _ = observe(made, samples(), -1, lambda share: None, carriers(made))
    equal = equalise(made)[0] if shape == "weights" else equalise_activations(made, fit.peaks)
    plain, _ = quantise(made, ranges(made, "minmax"))
    wanted, _ = quantise(equal, ranges(equal, "minmax"))
    assert not same(plain, wanted)
    found = retune(plain, made, equal, ranges(equal, "minmax"))
    assert found is not None
    assert same(found, wanted)


def test_a_channel_without_weights_has_a_scale() -> None:
    made, other = chain(), chain()
    weights = constant(made, "w1").copy()
    weights[2] = 0
    models.replace_weight(other, "w1", weights)
    plain, _ = quantise(made, ranges(made, "minmax"))
    wanted, _ = quantise(other, ranges(made, "minmax"))
    found = retune(plain, made, other, ranges(made, "minmax"))
    assert found is not None
    assert same(found, wanted)


def test_other_nodes_are_a_matter_for_the_quantiser() -> None:
    made = chain("Clip")
    plain, _ = quantise(made, ranges(made, "minmax"))
    opened, _ = open_clips(made)
    assert retune(plain, made, opened, ranges(opened, "minmax")) is None


def test_another_constant_than_weights_and_biases_is_a_matter_for_the_quantiser() -> None:
    made, other = chain("Clip"), chain("Clip")
    models.replace_weight(other, "six", np.float32(3))
    plain, _ = quantise(made, ranges(made, "minmax"))
    assert retune(plain, made, other, ranges(made, "minmax")) is None


def test_a_bias_that_its_scale_cannot_hold_is_a_matter_for_the_quantiser() -> None:
    made, other = chain(), chain()
    models.replace_weight(other, "b1", np.full(6, 1e9, np.float32))
    plain, _ = quantise(made, ranges(made, "minmax"))
    assert retune(plain, made, other, ranges(made, "minmax")) is None
