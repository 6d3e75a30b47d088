"""Which chunks the installed releases hold already, of whatever family, and how to read them.

A release whose manifest or chunk list is damaged is passed over: reuse saves bytes, and is never
needed. Every chunk is checked again when it is read.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from agent.store.layout import Layout, chunk_list_path, file_path, manifest_path
from contract.errors import ContractError
from contract.ids import digest_of
from contract.manifest import FileRef, decode_manifest
from model.chunks import parse_chunk_list


@dataclass(frozen=True)
class Spot:
    """A chunk's bytes in an installed file."""

    path: Path
    offset: int
    length: int


def chunks_on_disk(layout: Layout) -> dict[str, Spot]:
    """Chunk digest -> one place where an installed release holds it."""
    spots: dict[str, Spot] = {}
    for directory in installed_directories(layout):
        for ref in _device_files(directory):
            spots.update(_spots(directory, ref))
    return spots


def read_spot(spot: Spot, digest: str) -> bytes | None:
    """The chunk's bytes, or None when the disk no longer holds them."""
    try:
        with spot.path.open("rb") as file:
            file.seek(spot.offset)
            data = file.read(spot.length)
    except OSError:
        return None
    return data if digest_of(data) == digest else None


def installed_directories(layout: Layout) -> list[Path]:
    """Every installed release."""
    return sorted(path for path in layout.store.glob("*/*") if path.is_dir())


def _device_files(directory: Path) -> list[FileRef]:
    try:
        manifest = decode_manifest(manifest_path(directory).read_bytes())
    except (OSError, ContractError):
        return []
    present = {r.path: r for r in manifest.device_files if file_path(directory, r).is_file()}
    return list(present.values())


def _spots(directory: Path, ref: FileRef) -> Iterator[tuple[str, Spot]]:
    count = 0 if ref.chunks is None else ref.chunks.count
    path = file_path(directory, ref)
    try:
        chunks = parse_chunk_list(chunk_list_path(directory, ref).read_bytes(), count)
    except (OSError, ContractError):
        return
    offset = 0
    for chunk in chunks:
        yield chunk.digest, Spot(path, offset, chunk.length)
        offset += chunk.length
