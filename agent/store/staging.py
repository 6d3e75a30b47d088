"""One download: files at their full length, filled in chunk by chunk, in any order.

What is held is never written down: a chunk is held when the bytes at its place have its digest. So
a power cut at any instruction costs at most the chunks that were not on the disk yet. Knows no
network and no trust; the digests come from a manifest that is trusted.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from agent.errors import Malformed, Tampered
from agent.store.durable import disk_full_is_named, sync_directory, sync_file, write_durably
from agent.store.layout import chunk_list_path, file_path, manifest_path
from contract.errors import MalformedBlob
from contract.ids import digest_of
from contract.manifest import MAX_CHUNK_BYTES, FileRef
from model.chunks import Chunk, parse_chunk_list


@dataclass(frozen=True)
class Place:
    """Where a chunk belongs."""

    ref: FileRef
    offset: int


@dataclass(frozen=True)
class Plan:
    """Every chunk of a download, and each place where it belongs."""

    files: tuple[FileRef, ...]
    lengths: Mapping[str, int]
    places: Mapping[str, tuple[Place, ...]]

    @property
    def full_bytes(self) -> int:
        """What the files come to."""
        return sum(ref.length for ref in self.files)


def plan_files(lists: Iterable[tuple[FileRef, bytes]]) -> Plan:
    """The plan for files with these chunk lists; raises `Malformed` when they do not add up."""
    lengths: dict[str, int] = {}
    places: dict[str, tuple[Place, ...]] = {}
    files = []
    for ref, packed in lists:
        files.append(ref)
        offset = 0
        for chunk in _chunks(ref, packed):
            if lengths.setdefault(chunk.digest, chunk.length) != chunk.length:
                raise Malformed(f"{ref.path}: chunk {chunk.digest[:16]}… has two lengths")
            places[chunk.digest] = (*places.get(chunk.digest, ()), Place(ref, offset))
            offset += chunk.length
        if offset != ref.length:
            raise Malformed(f"{ref.path}: its chunks come to {offset} bytes, not {ref.length}")
    return Plan(tuple(files), lengths, places)


def _chunks(ref: FileRef, packed: bytes) -> list[Chunk]:
    count = 0 if ref.chunks is None else ref.chunks.count
    try:
        return parse_chunk_list(packed, count)
    except MalformedBlob as error:
        raise Malformed(f"{ref.path}: {error}") from error


class Staging:
    """One release's folder below `staging/`."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._open: dict[str, int] = {}

    def discard_links(self) -> None:
        """Whatever is written below here stays here, and reading ends: links of both kinds, pipes
        and the like that something left behind go."""
        if self.directory.is_symlink():
            self.directory.unlink()
        for folder, folders, files in os.walk(self.directory):
            for path in (Path(folder, name) for name in (*folders, *files)):
                if not _is_own(path.lstat()):
                    path.unlink()

    def manifest(self, digest: str) -> bytes | None:
        """The staged manifest, when it is whole."""
        return _whole(manifest_path(self.directory), digest)

    def save_manifest(self, data: bytes) -> None:
        """Keep the manifest; raises `DiskFull`."""
        self._make(self.directory)
        write_durably(manifest_path(self.directory), data, 0o644)

    def chunk_list(self, ref: FileRef) -> bytes | None:
        """The staged chunk list of a file, when it is whole."""
        digest = "" if ref.chunks is None else ref.chunks.digest
        return _whole(chunk_list_path(self.directory, ref), digest)

    def save_chunk_list(self, ref: FileRef, data: bytes) -> None:
        """Keep a chunk list; raises `DiskFull`."""
        path = chunk_list_path(self.directory, ref)
        self._make(path.parent)
        write_durably(path, data, 0o644)

    def prepare(self, plan: Plan) -> None:
        """Give every file its length, leaving what it holds."""
        for ref in plan.files:
            path = file_path(self.directory, ref)
            self._make(path.parent)
            with disk_full_is_named(ref.path), path.open("ab") as file:
                file.truncate(ref.length)

    def held(self, plan: Plan) -> set[str]:
        """The chunks whose bytes stand right at every place of theirs."""
        wrong: set[str] = set()
        found: set[str] = set()
        for ref in plan.files:
            with file_path(self.directory, ref).open("rb") as file:
                for digest, places in plan.places.items():
                    for place in places:
                        if place.ref is not ref or digest in wrong:
                            continue
                        file.seek(place.offset)
                        right = digest_of(file.read(plan.lengths[digest])) == digest
                        (found if right else wrong).add(digest)
        return found - wrong

    def put(self, plan: Plan, digest: str, data: bytes) -> None:
        """Write one chunk to every place of its; raises `Tampered` or `DiskFull`."""
        if digest_of(data) != digest:
            raise Tampered(f"chunk {digest[:16]}… came with other bytes")
        self.keep(plan, digest, data)

    def keep(self, plan: Plan, digest: str, data: bytes) -> None:
        """The same for bytes whose digest the caller has just computed; raises `DiskFull`."""
        for place in plan.places[digest]:
            with disk_full_is_named(place.ref.path):
                _write_all(self._descriptor(place.ref), data, place.offset)

    def close(self) -> None:
        """Close the files that chunks were written to; safe to call again."""
        while self._open:
            os.close(self._open.popitem()[1])

    def _descriptor(self, ref: FileRef) -> int:
        """Opened once: a model has thousands of chunks."""
        if ref.path not in self._open:
            self._open[ref.path] = os.open(file_path(self.directory, ref), os.O_WRONLY)
        return self._open[ref.path]

    def sync(self, plan: Plan) -> None:
        """Make every file last, with its name."""
        for ref in plan.files:
            with disk_full_is_named(ref.path):
                sync_file(file_path(self.directory, ref))
        for folder, _, _ in os.walk(self.directory):
            sync_directory(Path(folder))

    def _make(self, directory: Path) -> None:
        with disk_full_is_named(str(directory.name)):
            directory.mkdir(parents=True, exist_ok=True)


def _write_all(descriptor: int, data: bytes, offset: int) -> None:
    """A disk that fills up takes a part first; the next write then says so."""
    written = 0
    while written < len(data):
        written += os.pwrite(descriptor, data[written:], offset + written)


def _is_own(found: os.stat_result) -> bool:
    """A folder, or a file that has no other name."""
    return stat.S_ISDIR(found.st_mode) or (stat.S_ISREG(found.st_mode) and found.st_nlink == 1)


def _whole(path: Path, digest: str) -> bytes | None:
    """Manifests and chunk lists are blobs, and no longer than one."""
    try:
        with path.open("rb") as file:
            data = file.read(MAX_CHUNK_BYTES + 1)
    except FileNotFoundError:
        return None
    return data if digest_of(data) == digest else None
