"""The bytes of a .tflite file as a tree of tables, and back. Knows the container, no network.

Reads both ways in which weights may lie in a file (inside a table, or behind them all), and writes
the first, each buffer on a 16-byte edge as the format asks: processors without unaligned loads
would trap on anything else.
"""

from __future__ import annotations

import struct
from typing import Any

import flatbuffers  # type: ignore[import-untyped]  # it ships no types
import numpy as np
from ai_edge_litert import schema_py_generated as schema
from numpy.typing import NDArray

from converter.errors import NotTflite

IDENTIFIER = b"TFL3"
_ALIGNMENT = 16
_DAMAGE = (struct.error, IndexError, TypeError, ValueError, MemoryError, OverflowError)
"""What the generated reader raises on bytes that lead nowhere."""


class _Builder(flatbuffers.Builder):  # type: ignore[misc]  # it ships no types
    """Equal vectors are written once: a zero point for each channel is a fifth of a small file."""

    def __init__(self, size: int) -> None:
        super().__init__(size)
        self._written: dict[tuple[str, bytes], int] = {}

    def CreateNumpyVector(self, x: NDArray[Any]) -> int:
        key = (x.dtype.str, x.tobytes())
        if key not in self._written:
            if x.dtype == np.uint8:
                self.Prep(_ALIGNMENT, x.size)
            self._written[key] = super().CreateNumpyVector(x)
        return self._written[key]


def parse(data: bytes, name: str) -> Any:
    """`schema.ModelT` of a file called `name`; raises `NotTflite`.

    Follows offsets unchecked: whoever gives bytes of others' has LiteRT verify them first.
    """
    if data[4:8] != IDENTIFIER:
        raise NotTflite(f"{name}: not a TensorFlow Lite model; give the .tflite file itself")
    try:
        model = schema.ModelT.InitFromPackedBuf(data, 0)
        for buffer in model.buffers or []:
            _pull_in(buffer, data)
    except _DAMAGE as error:
        raise NotTflite(f"{name}: truncated or damaged; copy or export the file again") from error
    return model


def pack(model: Any) -> bytes:
    """A `schema.ModelT` as a file; equal models give equal bytes."""
    builder = _Builder(1024)
    builder.Finish(model.Pack(builder), IDENTIFIER)
    return bytes(builder.Output())


def values(model: Any, tensor: Any) -> NDArray[Any] | None:
    """The raw bytes of a constant tensor as uint8, or None when samples determine it."""
    data = model.buffers[tensor.buffer].data
    return None if data is None or len(data) == 0 else np.asarray(data, dtype=np.uint8)


def _pull_in(buffer: Any, data: bytes) -> None:
    """Offsets of 0 and 1 say that there is nothing behind the tables."""
    if buffer.offset > 1:
        if buffer.offset + buffer.size > len(data):
            raise ValueError("a buffer lies beyond the end of the file")
        buffer.data = np.frombuffer(data, np.uint8, buffer.size, buffer.offset)
        buffer.offset = buffer.size = 0
