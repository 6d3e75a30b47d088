"""The keys folder: `private/*.pem`, `public/*.json`, `metadata/*.json`, `trust.json`.

Reading verifies everything from the first root on, so that a damaged or tampered folder is found
here and not by the hub. Several files are put in force together, also when the power goes between
them. Knows where things stand; decides nothing about them.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tuf.api.metadata import Metadata, Root, Targets

from contract.errors import MalformedTrust
from contract.trust import (
    ROOT,
    TARGETS,
    check_metadata_file,
    decode_trust,
    encode_trust,
    metadata_name,
)
from converter.trust.errors import KeysNotFound, MetadataDamaged
from converter.trust.keyfiles import private_folder, write_durably
from converter.trust.metadata import parse, verify

TRUST_FILE = "trust.json"
INSTALLING = "installing.json"
"""Files on their way into `metadata/`: once this one is whole, all of them get there."""


@dataclass(frozen=True)
class SignedTrust:
    """Verified metadata: every root, the newest targets, and the newest of each family."""

    root: Root
    targets: Targets
    families: dict[str, Targets]
    files: dict[str, bytes]
    """Name -> bytes: what `trust.json` holds."""

    def versions(self) -> dict[str, int]:
        """Role -> version."""
        families = {name: family.version for name, family in self.families.items()}
        return {ROOT: self.root.version, TARGETS: self.targets.version, **families}


def private_key(directory: Path, name: str) -> Path:
    """The file of a private key: `root-1`, `targets-2`, `family-digits`."""
    return directory / "private" / f"{name}.pem"


def prepare(directory: Path) -> None:
    """Make the folders; the whole is readable by its owner alone."""
    for folder in (directory, *(directory / name for name in ("private", "public", "metadata"))):
        private_folder(folder)


@contextmanager
def exclusive(directory: Path) -> Iterator[None]:
    """One signer at a time: two would give two releases the same version.

    Raises `KeysNotFound` when there is no such folder.
    """
    try:
        handle = os.open(directory / ".lock", os.O_RDWR | os.O_CREAT, 0o600)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise _no_keys(directory) from error
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        _finish_installing(directory)
        yield
    finally:
        os.close(handle)


def has_trust(directory: Path) -> bool:
    """Whether the first root was signed here."""
    return (directory / "metadata" / metadata_name(ROOT, 1)).exists()


def store(directory: Path, role: str, version: int, data: bytes) -> None:
    """Add one signed metadata file."""
    write_durably(directory / "metadata" / metadata_name(role, version), data)


def install(directory: Path, files: Mapping[str, bytes]) -> None:
    """Add signed metadata files that are only good together: all of them or none."""
    write_durably(directory / INSTALLING, encode_trust(files))
    _finish_installing(directory)


def export(directory: Path) -> Path:
    """Write `trust.json`, for the hub, unless it says the same already."""
    path = directory / TRUST_FILE
    data = encode_trust(read_trust(directory).files)
    if not path.exists() or path.read_bytes() != data:
        write_durably(path, data)
    return path


def read_trust(directory: Path) -> SignedTrust:
    """Raises `KeysNotFound` when there is none, `MetadataDamaged` when it does not verify."""
    if not has_trust(directory):
        raise _no_keys(directory)
    paths = (directory / "metadata").glob("*.json")
    return trust_of({path.name: path.read_bytes() for path in paths})


def trust_of(found: Mapping[str, bytes]) -> SignedTrust:
    """What these files say, by name; raises `MetadataDamaged` when they do not verify."""
    newest, roots = _newest(found)
    root = _root_chain(roots)
    files = {metadata_name(ROOT, number + 1): data for number, data in enumerate(roots)}
    targets = verify(root, TARGETS, *_load(newest, TARGETS, files))
    families = {}
    for name in _delegated(targets):
        families[name] = verify(targets, name, *_load(newest, name, files))
    return SignedTrust(root, targets, families, files)


def _no_keys(directory: Path) -> KeysNotFound:
    return KeysNotFound(f"{directory} holds no keys: run `outrider keys init` first")


def _finish_installing(directory: Path) -> None:
    path = directory / INSTALLING
    if not path.exists():
        return
    for name, data in decode_trust(path.read_bytes()).items():
        write_durably(directory / "metadata" / name, data)
    path.unlink()


def _newest(found: Mapping[str, bytes]) -> tuple[dict[str, tuple[int, bytes]], list[bytes]]:
    """Role -> its highest version; and the roots in order."""
    newest: dict[str, tuple[int, bytes]] = {}
    roots: dict[int, bytes] = {}
    for name, data in found.items():
        try:
            role, version = check_metadata_file(name, data)
        except MalformedTrust as error:
            raise MetadataDamaged(f"{name}: {error}; remove it") from error
        if role == ROOT:
            roots[version] = data
        if version > newest.get(role, (0, b""))[0]:
            newest[role] = (version, data)
    return newest, [roots[version] for version in sorted(roots)]


def _root_chain(roots: list[bytes]) -> Root:
    """The last root, each signed by its predecessor's keys and by its own."""
    trusted: Root | None = None
    for number, data in enumerate(roots, start=1):
        name = metadata_name(ROOT, number)
        metadata = parse(Root, data, name)
        for delegator in (trusted, metadata.signed):
            if delegator is not None:
                verify(delegator, ROOT, metadata, name)
        if metadata.signed.version != number:
            raise MetadataDamaged(f"{name}: says version {metadata.signed.version}")
        trusted = metadata.signed
    if trusted is None:
        raise MetadataDamaged("no root.json, so nothing says which keys to trust")
    return trusted


def _load(
    newest: dict[str, tuple[int, bytes]], role: str, files: dict[str, bytes]
) -> tuple[Metadata[Targets], str]:
    if role not in newest:
        raise MetadataDamaged(f"metadata of {role} is not there; restore it from a backup")
    version, data = newest[role]
    name = metadata_name(role, version)
    metadata = parse(Targets, data, name)
    if metadata.signed.version != version:
        raise MetadataDamaged(f"{name}: says version {metadata.signed.version}")
    files[name] = data
    return metadata, name


def _delegated(targets: Targets) -> list[str]:
    if targets.delegations is None or targets.delegations.roles is None:
        raise MetadataDamaged("targets.json delegates to no family; restore it from a backup")
    return list(targets.delegations.roles)
