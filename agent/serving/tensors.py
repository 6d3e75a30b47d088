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


def check_shape(spec: TensorSpec, datatype: str, shape: list[int]) -> int:
    """How many elements the tensor has, once it fits the spec; a spec's -1 takes any batch."""
    if datatype != DATATYPES[spec.dtype]:
        raise MalformedRequest(
            f"input '{spec.name}' is {DATATYPES[spec.dtype]}, the request has {datatype[:16]}"
        )
    fits = len(shape) == len(spec.shape) and all(
        size >= 1 and size == (size if want == -1 else want)
        for size, want in zip(shape, spec.shape, strict=True)
    )
    if not fits:
        raise MalformedRequest(
            f"input '{spec.name}' has shape {shape[:MAX_RANK]}, the model takes {spec.shape}"
        )
    count = math.prod(shape)
    if count * np.dtype(spec.dtype).itemsize > MAX_TENSOR_BYTES:
        raise MalformedRequest(f"input '{spec.name}' is larger than {MAX_TENSOR_BYTES} bytes")
    return count


def from_bytes(spec: TensorSpec, shape: list[int], count: int, raw: memoryview) -> npt.NDArray[Any]:
    """A view of `raw` (row-major, little-endian), as the binary tensor extension sends it."""
    dtype = np.dtype(spec.dtype).newbyteorder("<")
    if len(raw) != count * dtype.itemsize:
        raise MalformedRequest(
            f"input '{spec.name}' has {len(raw)} bytes, its shape needs {count * dtype.itemsize}"
        )
    if spec.dtype == "bool":
        return _bools(spec, np.frombuffer(raw, np.uint8)).reshape(shape)
    return np.frombuffer(raw, dtype).reshape(shape).astype(spec.dtype, copy=False)


def from_json(spec: TensorSpec, shape: list[int], count: int, raw: bytes) -> npt.NDArray[Any]:
    """Nested or flat row-major JSON numbers as an array of the spec's dtype."""
    # Counted first, so that a short text never becomes a long list.
    if raw.count(b",") + 1 != count:
        raise MalformedRequest(f"input '{spec.name}': data does not have {count} elements")
    depth = _depth(raw)
    if depth not in (1, len(shape)):
        raise MalformedRequest(f"input '{spec.name}': data is neither flat nor shaped {shape}")
    kind = "bool" if spec.dtype == "bool" else "float" if "float" in spec.dtype else "int"
    try:
        values = _decoder(kind, depth).decode(raw)
        wide: npt.NDArray[Any] = np.array(
            values, {"bool": np.bool_, "float": np.float64, "int": np.int64}[kind]
        )
    except (msgspec.MsgspecError, ValueError, OverflowError, RecursionError, TypeError) as error:
        raise MalformedRequest(f"input '{spec.name}': {str(error)[:200]}") from error
    if depth != 1 and list(wide.shape) != shape:
        raise MalformedRequest(f"input '{spec.name}': data has shape {list(wide.shape)}")
    return _narrow(spec, wide).reshape(shape)


def to_bytes(array: npt.NDArray[Any]) -> bytes:
    """Row-major, little-endian."""
    little = array.dtype.newbyteorder("<")
    return np.ascontiguousarray(array).astype(little, copy=False).tobytes()


def to_json(array: npt.NDArray[Any]) -> list[Any]:
    """Flat row-major numbers. JSON has no NaN: msgspec writes NaN and Inf as null."""
    flat: list[Any] = np.asarray(array).ravel().tolist()
    return flat


def _bools(spec: TensorSpec, raw: npt.NDArray[np.uint8]) -> npt.NDArray[np.bool_]:
    if raw.size and raw.max() > 1:
        raise MalformedRequest(f"input '{spec.name}': a BOOL byte is neither 0 nor 1")
    return raw.view(np.bool_)


def _narrow(spec: TensorSpec, wide: npt.NDArray[Any]) -> npt.NDArray[Any]:
    if wide.dtype == np.int64:
        limits = np.iinfo(spec.dtype)
        if wide.min() < limits.min or wide.max() > limits.max:
            raise MalformedRequest(f"input '{spec.name}': a value does not fit {spec.dtype}")
    with np.errstate(over="ignore"):
        return wide.astype(spec.dtype)


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
