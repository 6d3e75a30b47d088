"""Equalisation: the same float function, even channels, the last layer as it was."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from converter.quantisation.calibration import observe
from converter.quantisation.equalisation import (
    carriers,
    equalise,
    equalise_activations,
    find_pairs,
    open_clips,
)
from tests.converter import models
from tests.converter.calibrated import inferred
from tests.converter.quantisation.networks import chain, constant, dense, samples

SPREAD = (1 / 16, 16, 1, 4, 1 / 4, 1)


def silent(share: float) -> None:
    """Nobody listens."""


def pairs(made: onnx.ModelProto) -> list[tuple[str, str]]:
    return [(pair.first.output[0], pair.second.output[0]) for pair in find_pairs(made.graph)]


def unevenness(made: onnx.ModelProto) -> float:
    """The largest over the smallest channel of the first layer's weights."""
    peaks = np.abs(constant(made, "w1")).reshape(6, -1).max(axis=1)
    return float(peaks.max() / peaks.min())


def answers(made: onnx.ModelProto, **inputs: models.Array) -> models.Array:
    return models.run(made, **inputs)[0]


@pytest.mark.parametrize("depthwise", [True, False])
@pytest.mark.parametrize("activation", ["Relu", "LeakyRelu"])
def test_the_float_function_stays_the_same(activation: str, depthwise: bool) -> None:
    made = chain(activation, spread=SPREAD, depthwise=depthwise)
    found, count = equalise(made)
    images = models.images(10, seed=4)
    assert count == 1
    np.testing.assert_allclose(
        answers(found, image=images), answers(made, image=images), rtol=1e-4, atol=1e-4
    )


def test_spread_channels_become_even_again() -> None:
    assert unevenness(chain(spread=SPREAD)) > 50
    assert unevenness(equalise(chain(spread=SPREAD))[0]) < 8


def test_the_model_that_went_in_is_not_touched() -> None:
    made = chain(spread=SPREAD)
    before = made.SerializeToString()
    equalise(made)
    assert made.SerializeToString() == before


def test_the_last_layer_keeps_its_bytes() -> None:
    made = chain(spread=SPREAD)
    found, _ = equalise(made)
    np.testing.assert_array_equal(constant(found, "w3"), constant(made, "w3"))
    assert pairs(made) == [("c1", "c2")]


def test_another_last_layer_changes_nothing_before_it() -> None:
    made, retrained = chain(spread=SPREAD), chain(spread=SPREAD)
    models.replace_weight(retrained, "w3", 7 * constant(made, "w3"))
    for name in ("w1", "b1", "w2", "b2"):
        np.testing.assert_array_equal(
            constant(equalise(made)[0], name), constant(equalise(retrained)[0], name)
        )


def test_dense_layers_are_equalised_whichever_way_their_weights_lie() -> None:
    made = dense()
    found, count = equalise(made)
    rows = models.rng(5).normal(0, 1, (20, 9)).astype(np.float32)
    assert count == 1
    assert not np.array_equal(constant(found, "w1"), constant(made, "w1"))
    np.testing.assert_allclose(answers(found, image=rows), answers(made, image=rows), atol=1e-4)


def test_a_channel_is_followed_through_flattening() -> None:
    made = dense(flattened=True)
    found, count = equalise(made)
    images = models.images(20)[:, :, :4, :4]
    assert count == 1
    assert not np.array_equal(constant(found, "w2"), constant(made, "w2"))
    np.testing.assert_allclose(answers(found, image=images), answers(made, image=images), atol=1e-4)


def test_relu6_lets_no_factor_pass() -> None:
    assert pairs(chain("Clip", spread=SPREAD)) == []


def test_an_activation_that_bends_lets_no_factor_pass() -> None:
    assert pairs(chain("Sigmoid")) == []


def test_relu6_can_be_opened() -> None:
    found, count = open_clips(chain("Clip"))
    assert count == 2
    assert [node.op_type for node in found.graph.node if node.op_type in {"Relu", "Clip"}] == [
        "Relu",
        "Relu",
    ]
    assert pairs(inferred(found)) == [("c1", "c2")]


def test_a_clip_that_does_not_start_at_zero_stays() -> None:
    made = chain("Clip")
    models.replace_weight(made, "zero", np.asarray(-1.0, np.float32))
    assert open_clips(made)[1] == 0


def test_a_tensor_with_two_readers_is_left_alone() -> None:
    made = chain()
    made.graph.output.append(models.tensor("r1", "N", 6, 8, 8))
    assert pairs(made) == []


def test_a_weight_that_two_layers_share_is_copied_first() -> None:
    made = chain(depthwise=True)
    shared = next(node for node in made.graph.node if node.output[0] == "c2")
    models.replace_weight(made, "w2", constant(made, "w1"))
    shared.input[1] = "w1"
    images = models.images(6)
    found, count = equalise(made)
    assert count == 1
    np.testing.assert_allclose(answers(found, image=images), answers(made, image=images), atol=1e-4)


def test_a_dead_channel_does_no_harm() -> None:
    made = chain(spread=SPREAD)
    dead = constant(made, "w1").copy()
    dead[2] = 0
    models.replace_weight(made, "w1", dead)
    found, _ = equalise(made)
    assert np.isfinite(constant(found, "w1")).all()
    assert np.isfinite(constant(found, "w2")).all()


# By the activations


def even(made: onnx.ModelProto) -> onnx.ModelProto:
    fit, _ = observe(made, samples(), -1, silent, carriers(made))
    return equalise_activations(made, fit.peaks)


def test_the_carrier_is_the_tensor_after_the_activation() -> None:
    assert carriers(chain()) == ["r1"]


def test_activations_keep_the_function_and_come_half_way_together() -> None:
    made = chain(spread=SPREAD)
    found = even(made)
    images = models.images(30, seed=6)
    np.testing.assert_allclose(
        answers(found, image=images), answers(made, image=images), rtol=1e-4, atol=1e-4
    )

    def ratio(of: onnx.ModelProto) -> float:
        peaks = observe(of, samples(), -1, silent, ["r1"])[0].peaks["r1"]
        return float(peaks.max() / peaks[peaks > 0].min())

    assert ratio(found) == pytest.approx(np.sqrt(ratio(made)), rel=1e-3)


def test_a_channel_that_never_speaks_is_left_alone() -> None:
    made = chain()
    silenced = constant(made, "b1").copy()
    silenced[1] = -1e3
    models.replace_weight(made, "b1", silenced)
    found = even(made)
    np.testing.assert_array_equal(constant(found, "w1")[1], constant(made, "w1")[1])
