"""Golden samples and their bytes: a magic, a JSON header, then the arrays, raw and little-endian.

Not .npz, because that is a ZIP of Python literals: this form has one encoding for equal samples,
holds no code, and its size is known from its header before anything is allocated.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated

import msgspec
import numpy as np
from msgspec import Meta

from contract.manifest import DType, Name
from model.errors import MalformedGolden
from model.tensors import Array

MAGIC = b"outrider golden 1\n"
MAX_SAMPLES = 4_096
MAX_GOLDEN_BYTES = 64 << 20
_MAX_HEADER_BYTES = 64 * 1024
_Sizes = Annotated[list[Annotated[int, Meta(ge=1, le=1 << 26)]], Meta(min_length=1, max_length=9)]


@dataclass(frozen=True, eq=False)
class GoldenSamples:
    """Samples along the first axis of every array, [N, ...], in the specs' dtypes.

    `tolerance_abs` bounds the error of any single value, in real units. `min_agreement`, in 0..1,
    is the share of samples that have to agree (see model.golden).
    """

    inputs: dict[str, Array]
    outputs: dict[str, Array]
    tolerance_abs: float
    min_agreement: float

    @property
    def samples(self) -> int:
        """How many there are."""
        return len(next(iter(self.inputs.values())))


class _Tensor(msgspec.Struct, frozen=True):
    name: Name
    dtype: DType
    shape: _Sizes


class _Header(msgspec.Struct, frozen=True, kw_only=True):
    inputs: Annotated[list[_Tensor], Meta(min_length=1, max_length=32)]
    outputs: Annotated[list[_Tensor], Meta(min_length=1, max_length=32)]
    tolerance_abs: Annotated[float, Meta(ge=0)]
    min_agreement: Annotated[float, Meta(ge=0, le=1)]


def encode_golden(golden: GoldenSamples) -> bytes:
    """Equal samples give equal bytes. Raises `MalformedGolden` for what could not be read back."""
    try:
        header = msgspec.convert(
            {
                "inputs": _described(golden.inputs),
                "outputs": _described(golden.outputs),
                "tolerance_abs": float(golden.tolerance_abs),
                "min_agreement": float(golden.min_agreement),
            },
            _Header,
        )
    except msgspec.ValidationError as error:
        raise MalformedGolden(f"golden samples: {error}") from error
    packed = msgspec.json.encode(header)
    arrays = [golden.inputs[t.name] for t in header.inputs]
    arrays += [golden.outputs[t.name] for t in header.outputs]
    body = b"".join(_raw(array) for array in arrays)
    data = MAGIC + len(packed).to_bytes(4, "big") + packed + body
    _check(header, len(packed), len(body))
    return data


def decode_golden(data: bytes) -> GoldenSamples:
    """Parse golden samples; raises `MalformedGolden` and nothing else. The arrays are read-only."""
    start = len(MAGIC) + 4
    if not data.startswith(MAGIC) or len(data) > MAX_GOLDEN_BYTES:
        raise MalformedGolden("not golden samples, or too many bytes of them")
    length = int.from_bytes(data[len(MAGIC) : start], "big")
    try:
        header = msgspec.json.decode(data[start : start + length], type=_Header)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise MalformedGolden(f"golden samples: header: {str(error)[:200]}") from error
    _check(header, length, len(data) - start - length)
    inputs, offset = _read(data, start + length, header.inputs)
    outputs, _ = _read(data, offset, header.outputs)
    return GoldenSamples(inputs, outputs, header.tolerance_abs, header.min_agreement)


def _described(arrays: dict[str, Array]) -> list[dict[str, object]]:
    return [
        {"name": name, "dtype": arrays[name].dtype.name, "shape": list(arrays[name].shape)}
        for name in sorted(arrays)
    ]


def _raw(array: Array) -> bytes:
    return array.astype(array.dtype.newbyteorder("<")).tobytes()


def _check(header: _Header, header_bytes: int, body_bytes: int) -> None:
    tensors = [*header.inputs, *header.outputs]
    if header_bytes > _MAX_HEADER_BYTES or not math.isfinite(header.tolerance_abs):
        raise MalformedGolden(
            "golden samples: the header is too long, or its tolerance is not finite"
        )
    for side in (header.inputs, header.outputs):
        if len({tensor.name for tensor in side}) != len(side):
            raise MalformedGolden("golden samples: two tensors have the same name")
    counts = {tensor.shape[0] for tensor in tensors}
    if len(counts) != 1 or not 0 < min(counts) <= MAX_SAMPLES:
        raise MalformedGolden(f"golden samples: counts {sorted(counts)}; one, 1 to {MAX_SAMPLES}")
    wanted = sum(map(_size, tensors))
    if wanted != body_bytes or wanted > MAX_GOLDEN_BYTES - _MAX_HEADER_BYTES:
        raise MalformedGolden(f"golden samples: {body_bytes} bytes of arrays, not {wanted}")


def _size(tensor: _Tensor) -> int:
    return math.prod(tensor.shape) * np.dtype(tensor.dtype).itemsize


def _read(data: bytes, offset: int, tensors: list[_Tensor]) -> tuple[dict[str, Array], int]:
    arrays: dict[str, Array] = {}
    for tensor in tensors:
        # A bool is read as a byte first: numpy believes any byte to be one.
        dtype = np.dtype("uint8" if tensor.dtype == "bool" else tensor.dtype).newbyteorder("<")
        array = np.frombuffer(data, dtype, math.prod(tensor.shape), offset).reshape(tensor.shape)
        arrays[tensor.name] = array != 0 if tensor.dtype == "bool" else array
        offset += _size(tensor)
    return arrays, offset
