"""A release as one object: its framed blobs one behind the other, in the order devices need them.

The object's name is the digest of what it holds and where, so a name never stands for two contents,
and nothing about the bucket needs to be remembered: what ought to be there follows from the blob
store. Knows no network.
"""

from __future__ import annotations

import io
from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any, Protocol

from contract.ids import digest_of
from contract.manifest import decode_manifest
from model.chunks import parse_chunk_list, unframe

SUFFIX = ".pack"
LIST_ENTRY_BYTES = 36
"""Of a binary chunk list (model.chunks)."""


@dataclass(frozen=True)
class Pack:
    """Where the blobs of one release stand in its object."""

    release: str
    digests: tuple[str, ...]
    starts: tuple[int, ...]
    """One more than digests: the last is the object's length."""
    places: Mapping[str, tuple[int, int]] = field(repr=False)
    """Offset and length of each."""

    @property
    def length(self) -> int:
        """Of the object, in bytes."""
        return self.starts[-1]

    @property
    def name(self) -> str:
        """The object's, without the bucket's prefix."""
        layout = sha256()
        for digest in self.digests:
            layout.update(bytes.fromhex(digest) + self.places[digest][1].to_bytes(4, "big"))
        return layout.hexdigest() + SUFFIX


def pack_of(release: str, digests: Sequence[str], lengths: Sequence[int]) -> Pack:
    """The blobs in this order; `lengths` are those of their payloads."""
    starts = [0]
    for length in lengths:
        starts.append(starts[-1] + length)
    places = dict(zip(digests, zip(starts, lengths, strict=False), strict=True))
    return Pack(release, tuple(digests), tuple(starts), places)


def in_order(manifest: bytes, read: Callable[[str], bytes]) -> list[str]:
    """The digests of a release's blobs, each once: the manifest, then file by file the chunk list
    and its chunks. So what a device lacks stands together, whichever variant it takes.

    `read` gives framed payloads. Raises what it raises, and the contract's errors.
    """
    found = {digest_of(manifest): None}
    for ref in decode_manifest(manifest).device_files:
        if ref.chunks is None:
            continue
        found[ref.chunks.digest] = None
        length = ref.chunks.count * LIST_ENTRY_BYTES
        chunks = unframe(read(ref.chunks.digest), length, ref.chunks.digest)
        found.update((chunk.digest, None) for chunk in parse_chunk_list(chunks, ref.chunks.count))
    return list(found)


class PackBody(io.RawIOBase):
    """The object's bytes as a file to read and rewind; one blob at a time is in memory."""

    def __init__(self, pack: Pack, read: Callable[[str], bytes]) -> None:
        """`read` gives framed payloads of the lengths that the pack names."""
        self._pack = pack
        self._read = read
        self._position = 0
        self._at, self._piece = -1, b""

    def readable(self) -> bool:
        """It is."""
        return True

    def seekable(self) -> bool:
        """What is sent may have to be sent again."""
        return True

    def tell(self) -> int:
        """The position of the next byte."""
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """As for any file."""
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._pack.length}
        self._position = max(0, base[whence] + offset)
        return self._position

    def readinto(self, buffer: Any) -> int:
        """Up to the end of one blob at a time; 0 at the end."""
        if self._position >= self._pack.length:
            return 0
        at = bisect_right(self._pack.starts, self._position) - 1
        if at != self._at:
            self._at, self._piece = at, self._read(self._pack.digests[at])
        start = self._position - self._pack.starts[at]
        data = self._piece[start : start + len(buffer)]
        if not data:
            raise OSError(f"blob {self._pack.digests[at][:16]}… is shorter than it was")
        buffer[: len(data)] = data
        self._position += len(data)
        return len(data)


class Addresses(Protocol):
    """Who can give out an address."""

    def address(self, name: str) -> str:
        """Where that object can be read for a short time, by whoever has the address."""


@dataclass
class Shelf:
    """Which releases stand in the bucket now. One thread swaps `held` whole, any may read it."""

    bucket: Addresses
    held: Mapping[str, Pack] = field(default_factory=dict)
    """By release."""
    trouble: str = ""
    """Why the bucket cannot be used right now."""

    def places(
        self, release: str, digests: Sequence[str], allowed: set[str]
    ) -> tuple[str, list[tuple[int, int]]] | None:
        """An address, and the place of each; None when the release is not there whole."""
        pack = self.held.get(release)
        if pack is None:
            return None
        nowhere = (0, 0)
        places = list(_once(digests, {d: pack.places.get(d, nowhere) for d in allowed}, nowhere))
        return self.bucket.address(pack.name), places


def _once(
    digests: Sequence[str], places: dict[str, tuple[int, int]], nowhere: tuple[int, int]
) -> Iterator[tuple[int, int]]:
    """Each blob is given once, however often it is asked for."""
    for digest in digests:
        yield places.pop(digest, nowhere)
