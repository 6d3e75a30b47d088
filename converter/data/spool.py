"""Samples that must be unpacked, and answers to many: read by place, in a file without a name.

The kernel frees such a file with its last descriptor, so that whatever ends this program (Ctrl-C,
a signal, a crash, the power) leaves nothing behind. Owns when the disk is used at all: few samples
stay in memory. Refuses more than `raw.MAX_DATA_BYTES`.
"""

from __future__ import annotations

import os
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import IO

import numpy as np

from converter.data import raw, rows
from converter.data.rows import Array, Layout, Rows, Store, blocks, rows_of
from converter.errors import SamplesUnreadable, SpoolFailed

_TURNED_BYTES = 32 << 20
"""Of an array in Fortran's order each value is a read of its own, so a block is a large one."""


class Spool:
    """Bytes that come one after the other; `folder` None: where temporary files are kept."""

    def __init__(self, name: str, folder: Path | None) -> None:
        self._name, self._folder = name, folder
        self._length = 0
        self._memory = bytearray()
        self._file: IO[bytes] | None = None

    def __enter__(self) -> Spool:
        return self

    def __exit__(self, *reason: object) -> None:
        if self._file is not None:
            self._file.close()

    def add(self, data: bytes | memoryview) -> None:
        """Raises `SamplesUnreadable` beyond the bound, `SpoolFailed` when the disk is full."""
        self._length += len(data)
        if self._length > raw.MAX_DATA_BYTES:
            raise SamplesUnreadable(
                f"{self._name}: more than {raw.MAX_DATA_BYTES} bytes when unpacked; give fewer"
                " samples"
            )
        if self._length <= rows.IN_MEMORY_BYTES:
            self._memory += data
            return
        try:
            self._write(data)
        except OSError as error:
            folder = self._folder or tempfile.gettempdir()
            raise SpoolFailed(
                f"{self._name}: what must be unpacked or kept finds no room in {folder}"
                f" ({error.strerror}); free some space there"
            ) from error

    def add_rows(self, array: Array) -> None:
        """The same, for samples."""
        self.add(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)

    def array(self, layout: Layout) -> Array | Rows:
        """The array that lies so in what was added: in memory, or by place where it is large."""
        if self._file is None:
            return _in_memory(self._memory, layout)
        return rows_of(Store(os.dup(self._file.fileno()), self._name), layout)

    def _write(self, data: bytes | memoryview) -> None:
        if self._file is None:
            self._file = tempfile.TemporaryFile(dir=self._folder, buffering=0)  # noqa: SIM115 - closed by __exit__
            data, self._memory = bytes(self._memory) + bytes(data), bytearray()
        rest = memoryview(data)
        while rest:
            rest = rest[self._file.write(rest) :]


def read_stored(store: Store, layout: Layout) -> Array | Rows:
    """An array of a file as it is: in memory when it is small, else by place."""
    if layout.nbytes > rows.IN_MEMORY_BYTES:
        return rows_of(store, layout)
    held = bytearray(layout.nbytes)
    if held:
        store.read_into(np.frombuffer(held, np.uint8), layout.offset)
    return _in_memory(held, replace(layout, offset=0))


def in_row_order(array: Array | Rows, name: str, folder: Path | None) -> Array | Rows:
    """Samples one after the other: as they are, or copied out of Fortran's order."""
    if not isinstance(array, Rows):
        return np.ascontiguousarray(array)
    if not array.layout.by_column:
        return array
    with Spool(name, folder) as spool:
        for _, block in blocks(array, _TURNED_BYTES):
            spool.add_rows(block)
        return spool.array(Layout(0, array.shape, array.dtype))


def _in_memory(held: bytearray, layout: Layout) -> Array:
    if not layout.nbytes:
        return np.empty(layout.shape, layout.dtype)
    # Cut out, so that the values are aligned however long the header was.
    values = held[layout.offset : layout.offset + layout.nbytes]
    flat = np.frombuffer(values, layout.dtype)
    if not layout.by_column:
        return flat.reshape(layout.shape)
    turned: Array = flat.reshape(layout.shape[::-1]).T
    return turned
