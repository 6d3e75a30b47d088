"""The keys folder on the workstation: `private/*.pem`, `metadata/*.json`, `trust.json`.

Reading verifies everything from the first root on, so that a damaged or tampered folder is found
here and not by the hub. Knows where things stand; decides nothing about them.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tuf.api.metadata import Metadata, Root, Targets

from contract.errors import MalformedTrust
from contract.trust import ROOT, TARGETS, check_metadata_file, encode_trust, metadata_name
from converter.trust.errors import KeysNotFound, MetadataDamaged
from converter.trust.keyfiles import private_folder, write_durably
from converter.trust.metadata import parse, verify

TRUST_FILE = "trust.json"


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


def family_key(directory: Path, family: str) -> Path:
    """The file of a family's private key."""
    return private_key(directory, f"family-{family}")


def prepare(directory: Path) -> None:
    """Make the folders; the whole is readable by its owner alone."""
    for folder in (directory, directory / "private", directory / "metadata"):
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
        yield
    finally:
        os.close(handle)


def has_trust(directory: Path) -> bool:
    """Whether the first root was signed here."""
    return (directory / "metadata" / metadata_name(ROOT, 1)).exists()


def store(directory: Path, role: str, version: int, data: bytes) -> None:
    """Add one signed metadata file."""
    write_durably(directory / "metadata" / metadata_name(role, version), data)


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
    newest, roots = _newest(directory)
    root = _root_chain(roots)
    files = {metadata_name(ROOT, number + 1): data for number, data in enumerate(roots)}
    targets = verify(root, TARGETS, *_load(newest, TARGETS, files))
    families = {}
    for name in _delegated(targets):
        families[name] = verify(targets, name, *_load(newest, name, files))
    return SignedTrust(root, targets, families, files)


def _no_keys(directory: Path) -> KeysNotFound:
    return KeysNotFound(f"{directory} holds no keys: run `outrider keys init` first")


def _newest(directory: Path) -> tuple[dict[str, tuple[int, bytes]], list[bytes]]:
    """Role -> its highest version; and the roots in order."""
    newest: dict[str, tuple[int, bytes]] = {}
    roots: dict[int, bytes] = {}
    for path in (directory / "metadata").glob("*.json"):
        data = path.read_bytes()
        try:
            role, version = check_metadata_file(path.name, data)
        except MalformedTrust as error:
            raise MetadataDamaged(f"{path}: {error}; remove it") from error
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
    assert trusted is not None  # noqa: S101 - has_trust saw the first one
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
