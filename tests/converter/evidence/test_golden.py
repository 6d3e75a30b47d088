"""Golden samples: clear answers of every class, bounded in size, tolerant of other kernels."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest

from contract.manifest import Quantisation, TensorSpec
from converter.evidence import golden
from converter.evidence.golden import choose, golden_bytes, tolerance_abs
from converter.samples import Samples
from model.golden_file import decode_golden
from tests.converter import models

SCORES = TensorSpec(name="y", dtype="float32", shape=[-1, 4])


def answers(classes: list[int], top: float = 0.9) -> dict[str, models.Array]:
    found = np.full((len(classes), 4), (1 - top) / 3, np.float32)
    found[np.arange(len(classes)), classes] = top
    return {"y": found}


def images(count: int) -> Samples:
    return Samples("calib.npz", {"image": models.images(count)})


def test_classes_are_taken_by_turns() -> None:
    classes = [0] * 60 + [1] * 30 + [2] * 3 + [3] * 7
    chosen = choose(images(100), answers(classes), SCORES, 0.1)
    taken = np.bincount(np.array(classes)[chosen], minlength=4)
    assert taken.tolist() == [7, 7, 3, 7]


def test_a_sample_that_two_classes_share_is_left_out() -> None:
    found = answers([0, 1] * 30)
    found["y"][4] = [0.5, 0.49, 0.01, 0.0]
    assert 4 not in choose(images(60), found, SCORES, 0.1)


def test_unclear_answers_are_better_than_none() -> None:
    found = answers([0, 1, 2], top=0.3)
    assert choose(images(3), found, SCORES, 0.1).tolist() == [0, 1, 2]


def test_fewer_samples_are_all_taken() -> None:
    assert choose(images(5), answers([0, 1, 2, 3, 0]), SCORES, 0.1).tolist() == [0, 1, 2, 3, 4]


def test_large_inputs_get_fewer_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    each = models.images(1).nbytes + 16
    monkeypatch.setattr(golden, "MAX_BYTES", 6 * each)
    assert len(choose(images(100), answers([0] * 100), SCORES, 0.1)) == 6
    monkeypatch.setattr(golden, "MAX_BYTES", 1)
    assert len(choose(images(100), answers([0] * 100), SCORES, 0.1)) == golden.MIN_SAMPLES


def test_without_classes_the_samples_are_spread_evenly() -> None:
    found = {"place": np.random.default_rng(1).random((100, 2)).astype(np.float32)}
    chosen = choose(images(100), found, None, 0.1)
    assert len(chosen) == golden.SAMPLES
    assert (chosen[0], chosen[-1]) == (0, 99)
    assert int(np.diff(chosen).max()) <= 5


def test_the_tolerance_is_a_share_of_the_outputs_span() -> None:
    assert tolerance_abs({"y": np.array([-5.0, 15.0])}, 0.1) == pytest.approx(2.0)
    assert tolerance_abs({"y": np.zeros(3)}, 0.1) == 1e-3


def test_the_bytes_hold_inputs_and_the_artifacts_answers() -> None:
    samples, found = images(40), answers([0, 1, 2, 3] * 10)
    decoded = decode_golden(golden_bytes(samples, found, [SCORES], SCORES, 0.1))
    assert decoded.samples == golden.SAMPLES
    np.testing.assert_array_equal(decoded.inputs["image"], samples.arrays["image"][:24])
    np.testing.assert_array_equal(decoded.outputs["y"], found["y"][:24])


def test_equal_samples_give_equal_bytes() -> None:
    found = answers([0, 1, 2, 3] * 10)
    first = golden_bytes(images(40), found, [SCORES], SCORES, 0.1)
    assert first == golden_bytes(images(40), found, [SCORES], SCORES, 0.1)


def test_the_tolerance_of_integers_is_in_the_unit_that_a_device_compares_in() -> None:
    """A tenth of 255 steps is no bound at all for probabilities."""
    steps = Quantisation(scale=1 / 256, zero_point=0)
    spec = msgspec.structs.replace(SCORES, dtype="uint8", quantisation=steps)
    floats = answers([0, 1, 2, 3] * 10)
    integers = {"y": np.round(floats["y"] * 256).astype(np.uint8)}
    as_float = decode_golden(golden_bytes(images(40), floats, [SCORES], SCORES, 0.1))
    as_steps = decode_golden(golden_bytes(images(40), integers, [spec], spec, 0.1))
    assert as_steps.outputs["y"].dtype == np.uint8
    assert as_steps.tolerance_abs == pytest.approx(as_float.tolerance_abs, abs=0.01)
    np.testing.assert_array_equal(as_steps.inputs["image"], as_float.inputs["image"])


def test_answers_of_yes_and_no_have_a_margin_too() -> None:
    flags = {"y": np.tile(np.array([[True, False, False, False]]), (9, 1))}
    assert len(choose(images(9), flags, SCORES, 0.1)) == 9
