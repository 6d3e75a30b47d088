"""The one pass over calibration: which tensors, which samples, and what is kept of them."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import helper

from converter.errors import InvalidOutput
from converter.quantisation import calibration
from converter.quantisation.calibration import (
    Probe,
    activations,
    observe,
    shared_ranges,
    split,
)
from converter.quantisation.thresholds import choose_range
from converter.samples import Samples
from tests.converter import models
from tests.converter.calibrated import inferred
from tests.converter.quantisation.networks import chain, samples


def silent(share: float) -> None:
    """Nobody listens."""


def test_all_float_tensors_that_samples_determine_are_watched() -> None:
    assert activations(chain()) == ["image", "c1", "r1", "c2", "r2", "p", "f", "scores"]


def test_a_tensor_before_its_relu_has_the_range_after_it() -> None:
    assert shared_ranges(chain())["c1"] == "r1"


def test_a_reshaped_tensor_has_the_range_before_it() -> None:
    assert shared_ranges(chain())["f"] == "p"


def test_a_tensor_that_others_read_before_the_relu_has_a_range_of_its_own() -> None:
    made = chain()
    made.graph.output.append(models.tensor("c1", "N", 6, 8, 8))
    assert "c1" not in shared_ranges(made)


def test_chains_end_at_a_tensor_that_is_watched() -> None:
    made = models.model(
        [
            helper.make_node("Conv", ["image", "w"], ["c"]),
            helper.make_node("Relu", ["c"], ["r"]),
            helper.make_node("MaxPool", ["r"], ["m"], kernel_shape=[2, 2]),
            helper.make_node("Flatten", ["m"], ["scores"]),
        ],
        [models.tensor("image", "N", 1, 8, 8)],
        [models.tensor("scores", "N", 100)],
        [models.weight("w", 4, 1, 3, 3)],
    )
    shared = shared_ranges(inferred(made))
    assert shared == {"c": "r", "m": "r", "scores": "r"}
    fit, _ = observe(inferred(made), samples(), -1, silent)
    assert fit.of("scores") is fit.of("c")


def test_ranges_are_those_of_the_models_own_tensors() -> None:
    made, given = chain(), samples()
    fit, held = observe(made, given, -1, silent)
    (values,) = Probe(made, ["r1"]).values(given.arrays).values()
    both = fit.merged(held).of("r1")
    assert (both.low, both.high) == (values.min(), values.max())


def test_without_counts_the_ranges_of_minimum_and_maximum_are_the_same() -> None:
    given = samples()
    for full, bare in zip(
        observe(chain(), given, -1, silent),
        observe(chain(), given, -1, silent, counted=False),
        strict=True,
    ):
        for name, histogram in full.histograms.items():
            assert choose_range(bare.histograms[name], "minmax") == choose_range(
                histogram, "minmax"
            )


def test_every_fourth_sample_is_held_back() -> None:
    fit, held = split(10)
    assert (fit.tolist(), held.tolist()) == ([0, 1, 2, 4, 5, 6, 8, 9], [3, 7])


def test_of_a_few_samples_none_is_held_back() -> None:
    fit, held = split(7)
    assert (len(fit), len(held)) == (7, 0)


def test_held_back_samples_do_not_count_for_the_fit() -> None:
    given = samples()
    given.arrays["image"][3] = 50.0
    fit, held = observe(chain(), given, -1, silent)
    assert fit.of("image").high < 50.0 == held.of("image").high


def test_the_batch_size_changes_no_end_and_no_count(monkeypatch: pytest.MonkeyPatch) -> None:
    whole, _ = observe(chain(), samples(), -1, silent)
    monkeypatch.setattr(calibration, "MAX_BATCH_VALUES", 1)
    single, _ = observe(chain(), samples(), -1, silent)
    for name, histogram in whole.histograms.items():
        assert histogram.low == pytest.approx(single.histograms[name].low, abs=1e-6)
        assert histogram.total == single.histograms[name].total


def test_a_model_for_one_sample_gets_one_a_call() -> None:
    made = chain()
    for value in (*made.graph.input, *made.graph.output, *made.graph.value_info):
        value.type.tensor_type.shape.dim[0].dim_value = 1
    fit, held = observe(made, samples(10), 1, silent)
    assert fit.of("image").total + held.of("image").total == 10 * 64


def test_no_batch_holds_more_activations_than_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    values = Probe.values

    def note(self: Probe, inputs: dict[str, models.Array]) -> dict[str, models.Array]:
        found = values(self, inputs)
        sizes.append(sum(array.size for array in found.values()))
        return found

    monkeypatch.setattr(Probe, "values", note)
    monkeypatch.setattr(calibration, "MAX_BATCH_VALUES", 5000)
    observe(chain(), samples(40), -1, silent)
    assert max(sizes) <= 5000


def test_peaks_are_the_largest_magnitude_of_each_channel() -> None:
    given = samples()
    fit, held = observe(chain(), given, -1, silent, ["r1"])
    (values,) = Probe(chain(), ["r1"]).values(given.arrays).values()
    expected = np.abs(values).max(axis=(0, 2, 3))
    np.testing.assert_allclose(fit.merged(held).peaks["r1"], expected, rtol=1e-6)


def test_shares_grow_from_nothing() -> None:
    told: list[float] = []
    observe(chain(), samples(100), -1, told.append)
    assert told == sorted(told)
    assert told[0] == 0.0


def test_a_model_that_overflows_is_named_by_its_tensor() -> None:
    huge = Samples("calib.npz", {"image": np.full((9, 1, 8, 8), 3e38, np.float32)})
    with pytest.raises(InvalidOutput, match="'r1' has NaN or Inf"):
        observe(chain(), huge, -1, silent)
