"""The hub's `tuf/` directory: signed metadata, one file a version, read anew each time.

A file that is there is whole. `in-force.json` says which versions belong together; it is written
last, so that an operation that was cut short leaves the old state in force and can be repeated.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import msgspec
from tuf.api.metadata import Root, Snapshot, Targets, Timestamp

from contract.errors import MalformedTrust
from contract.trust import (
    ROOT,
    SNAPSHOT,
    TARGETS,
    TIMESTAMP,
    TIMESTAMP_FILE,
    metadata_name,
    parse_metadata_name,
)
from fleet.files import write_whole
from fleet.trust.errors import MetadataDamaged, TrustRefused
from fleet.trust.verification import (
    families_of,
    read_family,
    read_roots,
    read_signed,
    read_targets,
)

IN_FORCE = "in-force.json"
"""Role -> version, of what offline keys signed."""
SNAPSHOTS_KEPT = 16
"""Old snapshots stay for whoever reads the directory while it changes."""


@dataclass(frozen=True)
class File:
    """One targets metadata file in force: its name, its bytes, and what they say."""

    name: str
    data: bytes
    signed: Targets


@dataclass(frozen=True)
class Trust:
    """What offline keys signed, verified: all roots, the newest targets and families."""

    roots: list[bytes]
    root: Root
    targets: File
    families: dict[str, File]


@dataclass(frozen=True)
class Fresh:
    """What the online keys signed last."""

    timestamp: Timestamp
    timestamp_data: bytes
    snapshot: Snapshot
    snapshot_data: bytes


@contextmanager
def exclusive(directory: Path) -> Iterator[None]:
    """One writer at a time, over threads and processes."""
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    handle = os.open(directory / ".lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def read_trust(directory: Path) -> Trust | None:
    """None before the first import; raises `MetadataDamaged` when the files do not verify."""
    versions = _in_force(directory)
    if versions is None:
        return None
    try:
        newest = versions.get(ROOT, 0)
        roots = [_read(directory, metadata_name(ROOT, n + 1)) for n in range(newest)]
        root = read_roots(roots)
        name = metadata_name(TARGETS, versions.get(TARGETS, 0))
        data = _read(directory, name)
        targets = File(name, data, read_targets(root, name, data))
        families = {
            family: _read_family(directory, targets.signed, family, versions)
            for family in families_of(targets.signed)
        }
    except TrustRefused as error:
        raise MetadataDamaged(
            f"{directory} does not verify ({error}): restore it from the hub's backup"
        ) from error
    return Trust(roots, root, targets, families)


def read_fresh(directory: Path, root: Root) -> Fresh | None:
    """None before the first signature, and when the root no longer trusts the keys that signed."""
    try:
        data = (directory / TIMESTAMP_FILE).read_bytes()
        timestamp = read_signed(Timestamp, root, TIMESTAMP, TIMESTAMP_FILE, data)
        name = metadata_name(SNAPSHOT, timestamp.snapshot_meta.version)
        snapshot_data = (directory / name).read_bytes()
        snapshot = read_signed(Snapshot, root, SNAPSHOT, name, snapshot_data)
    except (FileNotFoundError, TrustRefused):
        return None
    return Fresh(timestamp, data, snapshot, snapshot_data)


def highest_snapshot(directory: Path, ceiling: int) -> int:
    """The highest version of any snapshot file up to `ceiling`; 0 when there is none. What is above
    it a thief has left, and a hub with new keys starts below."""
    found = _versions(directory).get(SNAPSHOT, [])
    return max((version for version in found if version <= ceiling), default=0)


def write_trust(directory: Path, trust: Trust) -> None:
    """Every file, then the one that puts them in force."""
    for file in [*trust.families.values(), trust.targets]:
        _write(directory, file.name, file.data)
    for version, data in enumerate(trust.roots, start=1):
        _write(directory, metadata_name(ROOT, version), data)
    versions = {name: file.signed.version for name, file in trust.families.items()}
    versions |= {ROOT: len(trust.roots), TARGETS: trust.targets.signed.version}
    _write(directory, IN_FORCE, msgspec.json.encode(versions, order="sorted"))


def write_fresh(directory: Path, fresh: Fresh) -> None:
    """The snapshot before the timestamp that names it; then old snapshots go."""
    version = fresh.snapshot.version
    _write(directory, metadata_name(SNAPSHOT, version), fresh.snapshot_data)
    _write(directory, TIMESTAMP_FILE, fresh.timestamp_data)
    found = sorted(_versions(directory)[SNAPSHOT])
    kept = [number for number in found if number <= version][-SNAPSHOTS_KEPT:]
    for other in set(found).difference(kept):
        (directory / metadata_name(SNAPSHOT, other)).unlink(missing_ok=True)


def read_version(directory: Path, role: str, version: int) -> bytes:
    """One metadata file; raises `MetadataDamaged` when it is not there."""
    return _read(directory, metadata_name(role, version))


def _in_force(directory: Path) -> dict[str, int] | None:
    if not (directory / IN_FORCE).exists():
        return None
    try:
        return msgspec.json.decode(_read(directory, IN_FORCE), type=dict[str, int])
    except msgspec.MsgspecError as error:
        raise MetadataDamaged(
            f"{directory / IN_FORCE}: not readable; restore it from the hub's backup"
        ) from error


def _read_family(directory: Path, targets: Targets, family: str, versions: dict[str, int]) -> File:
    if family not in versions:
        raise TrustRefused(f"{family}.json is missing")
    name = metadata_name(family, versions[family])
    data = _read(directory, name)
    return File(name, data, read_family(targets, family, name, data))


def _versions(directory: Path) -> dict[str, list[int]]:
    found: dict[str, list[int]] = {}
    for path in directory.glob("*.*.json"):
        try:
            role, version = parse_metadata_name(path.name)
        except MalformedTrust:
            continue
        found.setdefault(role, []).append(version)
    return found


def _read(directory: Path, name: str) -> bytes:
    try:
        return (directory / name).read_bytes()
    except OSError as error:
        raise MetadataDamaged(
            f"{directory / name}: {error.strerror}; restore it from the hub's backup"
        ) from error


def _write(directory: Path, name: str, data: bytes) -> None:
    path = directory / name
    if not path.exists() or path.read_bytes() != data:
        write_whole(path, data, 0o644)
