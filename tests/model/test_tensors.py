"""Tensors at the boundary: what fits passes unchanged, everything else is named."""

from __future__ import annotations

import numpy as np
import pytest

from contract.manifest import Quantisation, TensorSpec
from model.errors import InvalidInput
from model.tensors import Array, checked_inputs, mismatch, real_values
from tests.model.builders import IMAGE, images

INT8 = TensorSpec(name="x", dtype="int8", shape=[-1, 4], quantisation=Quantisation(0.5, 3))


def test_inputs_that_fit_pass_unchanged() -> None:
    array = images(2)
    assert checked_inputs([IMAGE], {"image": array})["image"] is array


def test_inputs_are_made_contiguous() -> None:
    array = images(4)[::2]
    assert checked_inputs([IMAGE], {"image": array})["image"].flags["C_CONTIGUOUS"]


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({}, "'image' is missing"),
        ({"image": images(1), "more": images(1)}, "no input 'more'"),
        ({"image": images(1).astype(np.float64)}, "dtype float64; must be float32"),
        ({"image": images(1)[0]}, r"shape \[1, 8, 8\]; must be \[-1, 1, 8, 8\]"),
        ({"image": images(1)[..., :7]}, r"shape \[1, 1, 8, 7\]"),
    ],
)
def test_inputs_that_do_not_fit_are_named(inputs: dict[str, Array], message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        checked_inputs([IMAGE], inputs)


def test_floats_for_a_quantised_input_are_quantised() -> None:
    floats = np.array([[0.0, 0.5, -0.26, 1e9]], np.float32)
    found = checked_inputs([INT8], {"x": floats})["x"]
    assert found.dtype == np.int8
    assert found.tolist() == [[3, 4, 2, 127]]


def test_quantised_values_pass_as_they_are() -> None:
    array = np.array([[1, 2, 3, 4]], np.int8)
    assert checked_inputs([INT8], {"x": array})["x"] is array


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_what_is_not_finite_is_not_quantised(bad: float) -> None:
    with pytest.raises(InvalidInput, match="NaN or Inf"):
        checked_inputs([INT8], {"x": np.full((1, 4), bad, np.float32)})


def test_other_integers_are_not_taken_for_quantised() -> None:
    with pytest.raises(InvalidInput, match="dtype int32; must be int8"):
        checked_inputs([INT8], {"x": np.zeros((1, 4), np.int32)})


def test_real_values_undo_the_quantisation() -> None:
    assert real_values(INT8, np.array([[3, 4, -128]], np.int8)).tolist() == [[0.0, 0.5, -65.5]]
    assert real_values(INT8, np.array([0.25], np.float32)).tolist() == [0.25]


def test_a_dimension_of_minus_one_fits_any_size() -> None:
    assert mismatch(IMAGE, "float32", [7, 1, 8, 8]) is None
    assert mismatch(IMAGE, "float32", [-1, 1, -1, 8]) is None
    assert mismatch(IMAGE, "float32", [7, 1, 8]) is not None


def test_a_scale_of_zero_quantises_nothing() -> None:
    spec = TensorSpec(name="x", dtype="int8", shape=[-1, 1], quantisation=Quantisation(0.0, 0))
    with pytest.raises(InvalidInput, match="not positive"):
        checked_inputs([spec], {"x": np.ones((1, 1), np.float32)})
