"""Tensors of the protocol: what fits the spec comes through exactly, what does not is refused."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.serving import tensors
from agent.serving.errors import MalformedRequest
from contract.manifest import DType, Quantisation, TensorSpec

DTYPES: list[DType] = ["bool", "uint8", "int8", "int16", "int32", "int64", "float16", "float32"]


def spec(dtype: DType = "float32", *shape: int) -> TensorSpec:
    return TensorSpec(name="x", dtype=dtype, shape=list(shape))


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_dtype_survives_bytes_and_json(dtype: DType) -> None:
    array = np.array([[0, 1, 1], [1, 0, 1]]).astype(dtype)
    raw = memoryview(tensors.to_bytes(array))
    assert np.array_equal(tensors.from_bytes("x", dtype, [2, 3], 6, raw), array)
    text = msgspec.json.encode(tensors.to_json(array))
    back = tensors.from_json("x", dtype, [2, 3], 6, text)
    assert back.dtype == array.dtype
    assert np.array_equal(back, array)


def test_nested_and_flat_json_are_the_same_tensor() -> None:
    flat = tensors.from_json("x", "int16", [2, 2], 4, b"[1,2,3,4]")
    nested = tensors.from_json("x", "int16", [2, 2], 4, b" [ [1, 2],\n[3, 4]]")
    assert np.array_equal(flat, nested)
    assert flat.shape == (2, 2)


@pytest.mark.parametrize(
    ("dtype", "text"),
    [
        ("uint8", b"[1,256]"),
        ("int8", b"[-129,0]"),
        ("int64", b"[9223372036854775808,0]"),
        ("int32", b"[1.5,2]"),
        ("float32", b'["1","2"]'),
        ("float32", b"[null,1]"),
        ("float32", b"[NaN,1]"),
        ("bool", b"[1,0]"),
        ("float32", b"[1,2,3]"),
        ("float32", b"[[1],[2]]"),
        ("float32", b"[1,[2]]"),
        ("float32", b'{"a":1,"b":2}'),
        ("float32", b"[" * 9 + b"1,2" + b"]" * 9),
        ("float32", b"[,]"),
        ("float32", b""),
    ],
)
def test_numbers_that_do_not_fit_are_refused(dtype: DType, text: bytes) -> None:
    with pytest.raises(MalformedRequest):
        tensors.from_json("x", dtype, [2], 2, text)


def test_ragged_json_is_refused() -> None:
    with pytest.raises(MalformedRequest):
        tensors.from_json("x", "float32", [2, 2], 4, b"[[1,2,3],[4]]")


def test_bytes_of_another_length_are_refused() -> None:
    with pytest.raises(MalformedRequest, match="8 bytes, its shape needs 12"):
        tensors.from_bytes("x", "float32", [3], 3, memoryview(bytes(8)))


def test_a_bool_byte_of_two_is_refused() -> None:
    with pytest.raises(MalformedRequest, match="BOOL"):
        tensors.from_bytes("x", "bool", [2], 2, memoryview(b"\x01\x02"))


@pytest.mark.parametrize("shape", [[4], [1, 5], [1, 4, 1], [0, 4], []])
def test_a_shape_that_is_not_the_models_is_refused(shape: list[int]) -> None:
    with pytest.raises(MalformedRequest, match="the model takes"):
        tensors.check_shape(spec("float32", -1, 4), "float32", shape)


def test_a_batch_of_any_size_fits_a_free_dimension() -> None:
    assert tensors.check_shape(spec("float32", -1, 4), "float32", [7, 4]) == 28


def test_a_tensor_that_no_device_could_hold_is_refused() -> None:
    with pytest.raises(MalformedRequest, match="larger"):
        tensors.check_shape(spec("float32", -1, 4), "float32", [1 << 31, 4])


def test_float_may_be_sent_to_a_quantised_input_only() -> None:
    quantised = TensorSpec(
        name="x", dtype="uint8", shape=[-1, 4], quantisation=Quantisation(0.1, 128)
    )
    assert tensors.input_dtype(quantised, "FP32") == "float32"
    assert tensors.input_dtype(quantised, "UINT8") == "uint8"
    with pytest.raises(MalformedRequest, match="UINT8"):
        tensors.input_dtype(spec("uint8", -1, 4), "FP32")


def test_what_is_not_finite_goes_to_json_as_null() -> None:
    text = msgspec.json.encode(tensors.to_json(np.array([np.nan, np.inf, 1.0], np.float32)))
    assert text == b"[null,null,1.0]"


@given(st.sampled_from(DTYPES), st.binary(max_size=200), st.integers(1, 4), st.integers(1, 4))
def test_no_text_raises_anything_but_the_named_error(
    dtype: DType, text: bytes, rows: int, columns: int
) -> None:
    refused_or_shaped(dtype, rows, columns, text)


Nested = st.recursive(
    st.one_of(st.integers(), st.floats(), st.booleans(), st.none(), st.text(max_size=3)),
    lambda inner: st.lists(inner, max_size=4),
    max_leaves=12,
)


@given(st.sampled_from(DTYPES), Nested, st.integers(1, 3), st.integers(1, 3))
def test_no_json_raises_anything_but_the_named_error(
    dtype: DType, value: Any, rows: int, columns: int
) -> None:
    refused_or_shaped(dtype, rows, columns, msgspec.json.encode(value))


def refused_or_shaped(dtype: DType, rows: int, columns: int, text: bytes) -> None:
    try:
        array = tensors.from_json("x", dtype, [rows, columns], rows * columns, text)
    except MalformedRequest:
        return
    assert array.shape == (rows, columns)
    assert array.dtype == np.dtype(dtype)


def test_more_numbers_than_json_may_carry_are_to_come_as_bytes() -> None:
    count = tensors.MAX_JSON_ELEMENTS + 1
    with pytest.raises(MalformedRequest, match="binary tensor"):
        tensors.from_json("x", "float32", [count], count, b"[" + b"0," * (count - 1) + b"0]")
    raw = memoryview(bytes(4 * count))
    assert tensors.from_bytes("x", "float32", [count], count, raw).size == count
