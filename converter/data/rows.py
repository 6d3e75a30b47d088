"""Samples that stay on the disk: an array [N, ...] of which memory holds only the rows asked for.

Owns reading by place, out of a file that is kept open; read, not mapped, because mapped pages count
as this program's memory. A selection or a change of rows is remembered, and made as they are read.
Refuses a file that became shorter than it was.
"""

from __future__ import annotations

import math
import os
import weakref
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from converter.errors import SamplesUnreadable

MAX_SAMPLES = 1 << 20
"""Of one source. Samples stay on the disk; labels, names and digests are held for each of them."""
IN_MEMORY_BYTES = 4 << 20
"""Arrays up to this size are read at once: then a conversion of few samples pays for no file."""
BLOCK_BYTES = 4 << 20
"""What a pass over an array holds at a time."""

Array = NDArray[Any]
Places = NDArray[np.int64]
Index = slice | Sequence[int] | Places


class Store:
    """An open file of ours or of the user's; closed when the last rows that need it are gone."""

    def __init__(self, descriptor: int, name: str) -> None:
        self.name = name
        self._descriptor = descriptor
        weakref.finalize(self, os.close, descriptor)

    def read_into(self, target: Array, offset: int) -> None:
        """Fill `target`, which is contiguous; raises `SamplesUnreadable`."""
        rest = target.reshape(-1).view(np.uint8).data
        while rest:
            try:
                got = os.preadv(self._descriptor, [rest[: 1 << 30]], offset)
            except OSError as error:
                raise SamplesUnreadable(f"{self.name}: {error.strerror}; check the disk") from error
            if got == 0:
                raise SamplesUnreadable(
                    f"{self.name}: became shorter while it was read; convert again"
                )
            rest, offset = rest[got:], offset + got


@dataclass(frozen=True)
class Layout:
    """Where an array lies in its store. `by_column`: Fortran's order, a row is scattered."""

    offset: int
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    by_column: bool = False

    @property
    def row_values(self) -> int:
        """How many values one sample has."""
        return math.prod(self.shape[1:])

    @property
    def nbytes(self) -> int:
        """Of the whole array."""
        return math.prod(self.shape) * self.dtype.itemsize


@dataclass(frozen=True, eq=False)
class Rows:
    """An array [N, ...] on the disk. Indexing reads; `take` and `changed` read nothing."""

    store: Store
    layout: Layout
    places: Places
    dtype: np.dtype[Any]
    changes: tuple[Callable[[Array], Array], ...] = ()

    @property
    def shape(self) -> tuple[int, ...]:
        """[N, ...], of what is selected."""
        return (len(self.places), *self.layout.shape[1:])

    @property
    def ndim(self) -> int:
        """How many dimensions, the samples' own included."""
        return len(self.layout.shape)

    @property
    def nbytes(self) -> int:
        """What it would take in memory."""
        return math.prod(self.shape) * self.dtype.itemsize

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, index: Index | int) -> Array:
        if isinstance(index, int | np.integer):
            one: Array = self[np.array([index], np.int64)][0]
            return one
        found = self._read(self.places[index])
        for change in self.changes:
            found = change(found)
        return found

    def take(self, index: Index) -> Rows:
        """The rows at `index`, in that order."""
        return replace(self, places=self.places[index])

    def changed(self, change: Callable[[Array], Array], dtype: np.dtype[Any]) -> Rows:
        """The same rows, each block of them as `change` makes it, of type `dtype`."""
        return replace(self, dtype=dtype, changes=(*self.changes, change))

    def _read(self, places: Places) -> Array:
        if self.layout.by_column:
            return self._gathered(places)
        row = (len(places), *self.layout.shape[1:])
        found = np.empty(row, self.layout.dtype)
        size = self.layout.row_values * self.layout.dtype.itemsize
        for start, end in _runs(places):
            offset = self.layout.offset + int(places[start]) * size
            self.store.read_into(found[start:end], offset)
        return found

    def _gathered(self, places: Places) -> Array:
        """Of an array in Fortran's order: value by value, each for all the rows between two ends.

        Meant for `spool.in_row_order`, which asks once for each row.
        """
        count, columns = self.layout.shape[0], self.layout.row_values
        first, last = (int(places.min()), int(places.max())) if len(places) else (0, -1)
        run = np.empty(last - first + 1, self.layout.dtype)
        found = np.empty((len(places), columns), self.layout.dtype)
        order = np.arange(columns).reshape(self.layout.shape[1:]).ravel(order="F")
        for column, place in enumerate(order if len(places) else ()):
            at = column * count + first
            self.store.read_into(run, self.layout.offset + at * run.itemsize)
            found[:, place] = run[places - first]
        return found.reshape(len(places), *self.layout.shape[1:])


def rows_of(store: Store, layout: Layout) -> Rows:
    """All rows of an array that lies in `store`; raises `SamplesUnreadable` for too many."""
    refuse_too_many(store.name, layout.shape[0])
    return Rows(store, layout, np.arange(layout.shape[0]), layout.dtype)


def refuse_too_many(name: str, count: int) -> None:
    """Raise `SamplesUnreadable` that names the file."""
    if count > MAX_SAMPLES:
        raise SamplesUnreadable(f"{name}: {count} samples; at most {MAX_SAMPLES}, give fewer")


def blocks(array: Array | Rows, size: int | None = None) -> Iterator[tuple[int, Array]]:
    """(place of the first, rows) of an array, in memory or on the disk, from start to end.

    A block has at most `size` bytes, None: `BLOCK_BYTES`; and one row at the least.
    """
    each = array.nbytes // max(len(array), 1)
    step = max(1, (size or BLOCK_BYTES) // max(each, 1))
    for start in range(0, len(array), step):
        yield start, array[start : start + step]


def _runs(places: Places) -> Iterator[tuple[int, int]]:
    """[start, end) of what lies one behind the other, so that it is read at once."""
    ends = np.flatnonzero(np.diff(places) != 1) + 1
    bounds = [0, *ends.tolist(), len(places)]
    for start, end in pairwise(bounds):
        if start < end:
            yield start, end
