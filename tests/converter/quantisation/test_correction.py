"""Bias correction: the mean error of rounded weights is gone, and nothing else moved."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from converter.quantisation.calibration import Probe, split
from converter.quantisation.correction import correct_biases, rounding_error, rounding_errors
from tests.converter import models
from tests.converter.quantisation.networks import chain, constant, samples

FIT, _ = split(40)


def rounded(made: onnx.ModelProto) -> onnx.ModelProto:
    """The model with the first layer's weights as int8 holds them."""
    copy = onnx.ModelProto()
    copy.CopyFrom(made)
    weights = constant(made, "w1")
    models.replace_weight(copy, "w1", weights + rounding_error(weights, 0))
    return copy


def mean(made: onnx.ModelProto) -> models.Array:
    (values,) = Probe(made, ["c1"]).values({"image": samples().arrays["image"][FIT]}).values()
    return np.asarray(values.mean(axis=(0, 2, 3)))


def test_the_mean_answer_of_rounded_weights_is_the_float_one_again() -> None:
    made = chain()
    corrected = correct_biases(made, rounding_errors(made, samples(), FIT, -1))
    off = np.abs(mean(rounded(made)) - mean(made)).max()
    assert off > 1e-5
    assert np.abs(mean(rounded(corrected)) - mean(made)).max() < 0.01 * off


def test_weights_are_left_alone_and_the_model_too() -> None:
    made = chain()
    before = made.SerializeToString()
    corrected = correct_biases(made, rounding_errors(made, samples(), FIT, -1))
    assert made.SerializeToString() == before
    for name in ("w1", "w2", "w3"):
        np.testing.assert_array_equal(constant(corrected, name), constant(made, name))


def test_a_layer_without_a_bias_gets_one() -> None:
    corrected = correct_biases(chain(), rounding_errors(chain(), samples(), FIT, -1))
    gemm = corrected.graph.node[-1]
    assert len(gemm.input) == 3
    assert constant(corrected, gemm.input[2]).shape == (4,)


def test_another_last_layer_leaves_the_corrections_before_it() -> None:
    made, retrained = chain(), chain()
    models.replace_weight(retrained, "w3", -3 * constant(made, "w3"))
    one, other = (
        correct_biases(m, rounding_errors(m, samples(), FIT, -1)) for m in (made, retrained)
    )
    for name in ("b1", "b2"):
        np.testing.assert_array_equal(constant(one, name), constant(other, name))


def test_a_bias_that_layers_share_is_left_alone() -> None:
    made = chain()
    next(node for node in made.graph.node if node.output[0] == "c2").input[2] = "b1"
    corrected = correct_biases(made, rounding_errors(made, samples(), FIT, -1))
    np.testing.assert_array_equal(constant(corrected, "b1"), constant(made, "b1"))


@pytest.mark.parametrize("axis", [0, 1])
def test_rounding_errors_are_at_most_half_a_step_of_their_channel(axis: int) -> None:
    weights = models.rng().normal(0, 1, (5, 7)).astype(np.float32)
    steps = np.abs(weights).max(axis=1 - axis, keepdims=True) / 127
    assert (np.abs(rounding_error(weights, axis)) <= 0.5001 * steps).all()


def test_a_channel_of_zeros_has_no_error() -> None:
    assert not rounding_error(np.zeros((2, 3), np.float32), 0).any()


def test_the_corrected_model_is_valid() -> None:
    onnx.checker.check_model(
        correct_biases(chain(), rounding_errors(chain(), samples(), FIT, -1)), full_check=True
    )


def test_the_rounding_is_the_quantisers_own() -> None:
    from converter.quantise import quantise
    from tests.converter.calibrated import plain_ranges

    made = chain()
    int8, _ = quantise(made, plain_ranges(made, samples()))
    steps = {t.name: numpy_helper.to_array(t) for t in int8.graph.initializer}
    scale = steps["w1_scale"].reshape(-1, 1, 1, 1)
    shipped = steps["w1_quantized"].astype(np.float32) * scale
    weights = constant(made, "w1")
    np.testing.assert_allclose(shipped, weights + rounding_error(weights, 0), atol=1e-6)


def test_errors_over_two_parts_are_those_over_all() -> None:
    made, (fit, held) = chain(), split(40)
    parts = [rounding_errors(made, samples(), places, -1) for places in (fit, held)]
    whole = rounding_errors(made, samples(), np.arange(40), -1)
    together = parts[0].merged(parts[1])
    assert together.count == whole.count == 40
    assert together.sums.keys() == whole.sums.keys() == {"c1", "c2", "scores"}
    for name, total in whole.sums.items():
        np.testing.assert_allclose(together.sums[name], total, rtol=1e-6)


def test_few_samples_hold_nothing_back_and_that_changes_nothing() -> None:
    made, (fit, held) = chain(), split(5)
    errors = rounding_errors(made, samples(5), fit, -1)
    assert len(held) == 0
    assert errors.merged(rounding_errors(made, samples(5), held, -1)).count == 5
