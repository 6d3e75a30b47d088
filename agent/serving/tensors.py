"""Open Inference Protocol tensors: JSON numbers or raw bytes to numpy arrays, and back. Pure.

Every array is checked against the model's tensor spec before anything of its size is built.
Raises `MalformedRequest` and nothing else.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from agent.serving.errors import MalformedRequest
from contract.manifest import TensorSpec

MAX_RANK = 8
MAX_TENSOR_BYTES = 64 * 1024 * 1024
MAX_JSON_ELEMENTS = 1 << 21
"""A number in JSON takes 2 bytes on the wire and 32 in memory: 16 MiB of them would be the end of a
small board. Raw tensors know no such limit."""

DATATYPES: dict[str, str] = {
    "bool": "BOOL",
    "uint8": "UINT8",
    "int8": "INT8",
    "int16": "INT16",
    "int32": "INT32",
    "int64": "INT64",
    "float16": "FP16",
    "float32": "FP32",
}
"""The manifest's dtypes as the protocol names them."""


def input_dtype(spec: TensorSpec, datatype: str) -> str:
    """The dtype that a request's tensor has: the spec's, or float32 for a quantised input.

    The runtime quantises then (model.tensors), so that clients outlive a change from float to int8.
    """
    if datatype == DATATYPES[spec.dtype]:
        return spec.dtype
    if datatype == "FP32" and spec.quantisation is not None:
        return "float32"
    raise MalformedRequest(
        f"input '{spec.name}' is {DATATYPES[spec.dtype]}, the request has {datatype[:16]}"
    )


def check_shape(spec: TensorSpec, dtype: str, shape: list[int]) -> int:
    """How many elements the tensor has, once it fits the spec; a spec's -1 takes any batch."""
    fits = len(shape) == len(spec.shape) and all(
        size >= 1 and size == (size if want == -1 else want)
        for size, want in zip(shape, spec.shape, strict=True)
    )
    if not fits:
        raise MalformedRequest(
            f"input '{spec.name}' has shape {shape[:MAX_RANK]}, the model takes {spec.shape}"
        )
    count = math.prod(shape)
    if count * np.dtype(dtype).itemsize > MAX_TENSOR_BYTES:
        raise MalformedRequest(f"input '{spec.name}' is larger than {MAX_TENSOR_BYTES} bytes")
    return count


def from_bytes(
    name: str, dtype: str, shape: list[int], count: int, raw: memoryview
) -> npt.NDArray[Any]:
    """A view of `raw` (row-major, little-endian), as the binary tensor extension sends it."""
    little = np.dtype(dtype).newbyteorder("<")
    if len(raw) != count * little.itemsize:
        raise MalformedRequest(
            f"input '{name}' has {len(raw)} bytes, its shape needs {count * little.itemsize}"
        )
    if dtype == "bool":
        return _bools(name, np.frombuffer(raw, np.uint8)).reshape(shape)
    return np.frombuffer(raw, little).reshape(shape).astype(dtype, copy=False)


def from_json(name: str, dtype: str, shape: list[int], count: int, raw: bytes) -> npt.NDArray[Any]:
    """Nested or flat row-major JSON numbers as an array of `dtype`."""
    if count > MAX_JSON_ELEMENTS:
        raise MalformedRequest(
            f"input '{name}' has {count} elements, more than JSON may carry here"
            f" ({MAX_JSON_ELEMENTS}): send it as a binary tensor"
        )
    # Counted first, so that a short text never becomes a long list.
    if raw.count(b",") + 1 != count:
        raise MalformedRequest(f"input '{name}': data does not have {count} elements")
    depth = _depth(raw)
    if depth not in (1, len(shape)):
        raise MalformedRequest(f"input '{name}': data is neither flat nor shaped {shape}")
    kind = "bool" if dtype == "bool" else "float" if "float" in dtype else "int"
    try:
        values = _decoder(kind, depth).decode(raw)
        wide: npt.NDArray[Any] = np.array(
            values, {"bool": np.bool_, "float": np.float64, "int": np.int64}[kind]
        )
    except (msgspec.MsgspecError, ValueError, OverflowError, RecursionError, TypeError) as error:
        raise MalformedRequest(f"input '{name}': {str(error)[:200]}") from error
    if wide.size != count or (depth != 1 and list(wide.shape) != shape):
        raise MalformedRequest(f"input '{name}': data has shape {list(wide.shape)}")
    return _narrow(name, dtype, wide).reshape(shape)


def to_bytes(array: npt.NDArray[Any]) -> bytes:
    """Row-major, little-endian."""
    little = array.dtype.newbyteorder("<")
    return np.ascontiguousarray(array).astype(little, copy=False).tobytes()


def to_json(array: npt.NDArray[Any]) -> list[Any]:
    """Flat row-major numbers. JSON has no NaN: msgspec writes NaN and Inf as null."""
    flat: list[Any] = np.asarray(array).ravel().tolist()
    return flat


def _bools(name: str, raw: npt.NDArray[np.uint8]) -> npt.NDArray[np.bool_]:
    if raw.size and raw.max() > 1:
        raise MalformedRequest(f"input '{name}': a BOOL byte is neither 0 nor 1")
    return raw.view(np.bool_)


def _narrow(name: str, dtype: str, wide: npt.NDArray[Any]) -> npt.NDArray[Any]:
    if wide.dtype == np.int64:
        limits = np.iinfo(dtype)
        if wide.min() < limits.min or wide.max() > limits.max:
            raise MalformedRequest(f"input '{name}': a value does not fit {dtype}")
    with np.errstate(over="ignore"):
        return wide.astype(dtype)


def _depth(raw: bytes) -> int:
    """How many lists deep the first number lies."""
    depth = 0
    for byte in raw[: 64 * MAX_RANK]:
        if byte == 0x5B:  # [
            depth += 1
        elif byte not in b" \t\r\n":
            break
    return depth


@lru_cache(maxsize=64)
def _decoder(kind: str, depth: int) -> msgspec.json.Decoder[Any]:
    if not 1 <= depth <= MAX_RANK:
        raise MalformedRequest("data is not a list of at most 8 dimensions")
    nested: Any = {"bool": bool, "float": float, "int": int}[kind]
    for _ in range(depth):
        nested = list[nested]
    return msgspec.json.Decoder(nested)
