"""Where a file is cut into chunks: by its content, so that an edit moves only near boundaries.

FastCDC (Xia et al., "FastCDC: a Fast and Efficient Content-Defined Chunking Approach for Data
Deduplication", USENIX ATC 2016) with normalised chunking. The boundaries are part of the bundle's
format: changing anything here makes every device fetch every file anew. Pure; holds no state.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from contract.manifest import MAX_CHUNK_BYTES

MIN_BYTES = 4 * 1024
NORMAL_BYTES = 16 * 1024
MAX_BYTES = MAX_CHUNK_BYTES
_NORMAL_BITS = 14
_LEVEL = 2
"""Normalisation: boundaries are 4 times rarer before the normal size, 4 times as frequent after."""
_WINDOW = 32
_BLOCK = 1 << 18
"""Positions hashed at once: its 1 MiB of hashes stays in the cache."""
_LARGE_BYTES = 32 << 20
"""Files above this size, and again above twice it, get chunks of twice the size."""


def _gear_table() -> npt.NDArray[np.uint32]:
    words = [hashlib.sha256(bytes([i])).digest()[:4] for i in range(256)]
    return np.frombuffer(b"".join(words), dtype=">u4").astype(np.uint32)


GEAR = _gear_table()
"""The gear hash's 256 random numbers: the first 4 bytes, big-endian, of SHA-256 of each byte."""


def cut(data: bytes) -> list[bytes]:
    """The chunks of `data` in order; they join to `data` again. No chunk is empty.

    All are `MIN_BYTES` to `MAX_BYTES` long except the last, which may be shorter.
    """
    ends = _ends(len(data), candidates_of(data), _scale(len(data)))
    return [data[start:end] for start, end in pairwise([0, *ends])]


def candidates_of(data: bytes) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Offsets at which a chunk may end: (before the normal size, after it).

    A boundary falls behind a byte when the highest bits of the gear hash of the 32 bytes up to it
    are 0. The highest bits are taken because only they depend on the whole window.
    """
    scale = _scale(len(data))
    hard = 32 - (_NORMAL_BITS + scale + _LEVEL)
    easy = 32 - (_NORMAL_BITS + scale - _LEVEL)
    octets = np.frombuffer(data, dtype=np.uint8)
    rare, frequent = [np.empty(0, np.int64)], [np.empty(0, np.int64)]
    for start in range(0, len(octets), _BLOCK):
        skip = min(start, _WINDOW - 1)
        hashes = gear_hashes(octets[start - skip : start + _BLOCK])[skip:]
        ends = np.flatnonzero(hashes < (1 << easy))
        frequent.append(ends + (start + 1))
        rare.append(ends[hashes[ends] < (1 << hard)] + (start + 1))
    return np.concatenate(rare), np.concatenate(frequent)


def gear_hashes(octets: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint32]:
    """The gear hash h[i] = (h[i-1] << 1) + GEAR[b[i]] mod 2^32 at every position, from h[-1] = 0.

    By doubling: the hash over 2w bytes is the one over the last w, plus the one over the w before
    them shifted by w; after 32 bytes everything older has left the word.
    """
    hashes = GEAR[octets]
    width = 1
    while width < _WINDOW:
        older = hashes[:-width] << np.uint32(width)
        hashes[width:] += older
        width *= 2
    return hashes


def _scale(length: int) -> int:
    return int(length > _LARGE_BYTES) + int(length > 2 * _LARGE_BYTES)


def _ends(
    length: int, candidates: tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]], scale: int
) -> Iterator[int]:
    rare, frequent = candidates
    start = 0
    while start < length:
        normal = start + (NORMAL_BYTES << scale)
        end = min(start + MAX_BYTES, length)
        first = _first(rare, start + MIN_BYTES, min(normal, end))
        if first is None:
            first = _first(frequent, normal, end)
        start = end if first is None else first
        yield start


def _first(offsets: npt.NDArray[np.int64], low: int, high: int) -> int | None:
    """The first offset in [low, high), if there is one."""
    index = int(np.searchsorted(offsets, low))
    if index < len(offsets) and offsets[index] < high:
        return int(offsets[index])
    return None
