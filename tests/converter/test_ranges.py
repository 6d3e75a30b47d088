"""Whether two sets of samples belong together: overlap, outliers, wrong scale."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from contract.manifest import TensorSpec
from converter.data import rows
from converter.errors import SamplesOverlap
from converter.ranges import (
    MIN_SAMPLES,
    Range,
    find_few,
    find_mismatch,
    find_outlier,
    input_ranges,
    refuse_overlap,
    share_outside,
)
from converter.samples import Samples, read_samples
from tests.converter import models


def made(array: models.Array, origin: str = "calib.npz") -> Samples:
    return Samples(origin, {"image": array})


CALIBRATION = made(models.images(40, seed=1))
EVALUATION = made(models.images(60, seed=2), "eval.npz")


def test_sets_of_different_samples_pass() -> None:
    refuse_overlap(CALIBRATION, EVALUATION)


def test_a_shared_sample_is_named_in_both_files() -> None:
    both = np.concatenate([models.images(5, seed=9), CALIBRATION.arrays["image"][[7, 3]]])
    with pytest.raises(SamplesOverlap) as caught:
        refuse_overlap(CALIBRATION, made(both, "eval.npz"))
    assert "eval.npz: sample 5 is sample 7 of calib.npz" in str(caught.value)
    assert "2 samples" in str(caught.value)


def test_repeated_samples_count_once() -> None:
    few = made(models.images(7, seed=1)[np.arange(100) % 7])
    found = find_few(few, EVALUATION)
    assert found is not None
    assert "100 samples to calibrate on, 7 of which differ" in str(found)
    same = made(models.images(1).repeat(100, axis=0), "eval.npz")
    assert "eval.npz" in str(find_few(CALIBRATION, same))


def test_eight_different_samples_suffice_however_often_they_come() -> None:
    enough = made(models.images(MIN_SAMPLES)[np.arange(100) % MIN_SAMPLES])
    assert find_few(enough, EVALUATION) is None


def test_a_negative_zero_hides_no_shared_sample() -> None:
    ours, theirs = models.images(2), models.images(2)
    ours[0, 0, 0, 0], theirs[0, 0, 0, 0] = 0.0, -0.0
    with pytest.raises(SamplesOverlap):
        refuse_overlap(made(ours), made(theirs[:1]))


def test_a_sample_is_shared_only_when_all_its_inputs_are() -> None:
    left, right = models.images(3, seed=1), models.images(3, seed=2)
    other = models.images(3, seed=3)
    refuse_overlap(Samples("a", {"l": left, "r": right}), Samples("b", {"l": left, "r": other}))


def test_ranges_are_of_the_float_inputs() -> None:
    pair = Samples("s", {"x": np.array([[-1.0, 3.0]], np.float32), "i": np.array([[9]])})
    assert input_ranges(pair) == {"x": Range(-1.0, 3.0)}


@pytest.mark.parametrize(
    ("calibration", "evaluation", "said"),
    [
        (MIN_SAMPLES - 1, 60, "calib.npz: 7 samples to calibrate on"),
        (40, 1, "eval.npz: 1 samples to evaluate on"),
    ],
)
def test_a_set_too_small_to_tell_anything_is_named(
    calibration: int, evaluation: int, said: str
) -> None:
    found = find_few(CALIBRATION.take(slice(0, calibration)), EVALUATION.take(slice(0, evaluation)))
    assert said in str(found)


def test_the_smallest_sets_pass() -> None:
    few = slice(0, MIN_SAMPLES)
    assert find_few(CALIBRATION.take(few), EVALUATION.take(few)) is None


def test_looking_for_outliers_copies_no_samples() -> None:
    many = made(np.ones((64, 1, 256, 256), np.float32))
    many.arrays["image"][9] = -1e6
    tracemalloc.start()
    try:
        assert "sample 9" in str(find_outlier(many))
        assert tracemalloc.get_traced_memory()[1] < many.arrays["image"].nbytes / 8
    finally:
        tracemalloc.stop()


def test_even_samples_have_no_outlier() -> None:
    assert find_outlier(CALIBRATION) is None


def test_one_huge_value_is_named() -> None:
    images = models.images(50)
    images[17, 0, 2, 2] = 1e6
    found = find_outlier(made(images))
    assert found is not None
    assert "sample 17 of 'image' reaches 1e+06" in str(found)


def test_a_huge_negative_value_is_an_outlier_too() -> None:
    images = models.images(50)
    images[3, 0, 0, 0] = -5e4
    assert "sample 3" in str(find_outlier(made(images)))


def test_blank_samples_do_not_make_the_others_outliers() -> None:
    images = models.images(50)
    images[:40] = 0.0
    assert find_outlier(made(images)) is None


def test_samples_of_one_range_match() -> None:
    assert find_mismatch(CALIBRATION, EVALUATION) is None


def test_a_few_values_outside_are_no_mismatch() -> None:
    images = EVALUATION.arrays["image"].copy()
    images[0, 0, 0, :4] = 3.0
    assert find_mismatch(CALIBRATION, made(images, "eval.npz")) is None


@pytest.mark.parametrize("scale", [1 / 255, 0.05, 0.5])
def test_a_calibration_too_small_leaves_values_out(scale: float) -> None:
    found = find_mismatch(made(CALIBRATION.arrays["image"] * scale), EVALUATION)
    assert found is not None
    assert "leaves out" in str(found)
    assert "'image'" in str(found)


@pytest.mark.parametrize("scale", [16.0, 255.0])
def test_a_calibration_too_wide_wastes_the_bits(scale: float) -> None:
    found = find_mismatch(made(CALIBRATION.arrays["image"] * scale), EVALUATION)
    assert found is not None
    assert "times as wide" in str(found)


def test_a_shifted_calibration_is_a_mismatch() -> None:
    assert find_mismatch(made(CALIBRATION.arrays["image"] - 2), EVALUATION) is not None


def test_integer_inputs_have_no_range_to_mismatch() -> None:
    ours, theirs = np.array([[1], [2]]), np.array([[1000]])
    assert find_mismatch(Samples("a", {"id": ours}), Samples("b", {"id": theirs})) is None


def test_the_share_outside_is_counted_over_all_values() -> None:
    images = EVALUATION.arrays["image"].copy()
    images[7, 0, :2, :2], images[50, 0, 0, 0] = 9.0, -9.0
    assert share_outside(made(images), "image", -8.0, 8.0) == 5 / images.size
    assert share_outside(made(images), "image", -9.0, 9.0) == 0.0


def test_samples_on_the_disk_get_the_same_verdicts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rows, "IN_MEMORY_BYTES", 0)
    monkeypatch.setattr(rows, "BLOCK_BYTES", 900)
    outlier, images = models.images(40, seed=1), EVALUATION.arrays["image"]
    outlier[17, 0, 1, 1] = 4e5
    held = [outlier, images * 20, images, np.concatenate([models.images(9), images[:3]])]
    spec = [TensorSpec(name="image", dtype="float32", shape=[-1, 1, 8, 8])]
    for place, array in enumerate(held):
        np.save(tmp_path / f"{place}.npy", array)
    ours = [read_samples(tmp_path / f"{place}.npy", spec) for place in range(len(held))]
    theirs = [made(array, f"{place}.npy") for place, array in enumerate(held)]
    for first, second in ((0, 2), (1, 2), (2, 1), (2, 0), (2, 2)):
        assert str(find_mismatch(ours[first], ours[second])) == str(
            find_mismatch(theirs[first], theirs[second])
        )
    assert str(find_outlier(ours[0])) == str(find_outlier(theirs[0]))
    assert [input_ranges(one) for one in ours] == [input_ranges(one) for one in theirs]
    with pytest.raises(SamplesOverlap, match=r"sample 9 is sample 0 of 2\.npy"):
        refuse_overlap(ours[2], ours[3])
