"""The keys folder: `private/*.pem`, `public/*.json`, `metadata/*.json`, `trust.json`.

Reading verifies everything from the first root on, so that a damaged or tampered folder is found
here and not by the hub. Several files are put in force together, also when the power goes between
them. Knows where things stand; decides nothing about them.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import msgspec

from contract.errors import MalformedTrust
from contract.ids import digest_of
from contract.trust import (
    ROOT,
    decode_trust,
    encode_trust,
    metadata_name,
    parse_metadata_name,
)
from converter.trust.chain import SignedTrust, trust_of
from converter.trust.errors import KeysNotFound, MetadataDamaged
from converter.trust.keyfiles import private_folder, write_durably

TRUST_FILE = "trust.json"
INSTALLING = "installing.json"
"""Files on their way into `metadata/`: once this one is whole, all of them get there."""

UNPUBLISHED = "unpublished.json"
"""Names of metadata that was completed here, and that no later change is known to build on."""
WITHDRAWING = "withdrawing.json"
"""Names on their way from `metadata/` to `replaced/`."""


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
        _finish_withdrawing(directory)
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


def withdraw(directory: Path, names: Collection[str]) -> None:
    """Move metadata files to `replaced/`, all of them or none: nothing that was signed is lost."""
    if names:
        write_durably(directory / WITHDRAWING, msgspec.json.encode(sorted(names)))
        _finish_withdrawing(directory)


def unpublished(directory: Path) -> frozenset[str]:
    """What was completed here and may never have been published."""
    return frozenset(_names(directory / UNPUBLISHED))


def mark_unpublished(directory: Path, names: Collection[str]) -> None:
    """Remember exactly these."""
    if names:
        write_durably(directory / UNPUBLISHED, msgspec.json.encode(sorted(names)))
    else:
        (directory / UNPUBLISHED).unlink(missing_ok=True)


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
    return trust_of(metadata(directory))


def metadata(directory: Path) -> dict[str, bytes]:
    """Every metadata file that is here, also older ones; verifies nothing."""
    paths = (directory / "metadata").glob("*.json")
    return {path.name: path.read_bytes() for path in paths}


def _no_keys(directory: Path) -> KeysNotFound:
    return KeysNotFound(f"{directory} holds no keys: run `outrider keys init` first")


def _finish_installing(directory: Path) -> None:
    path = directory / INSTALLING
    if not path.exists():
        return
    for name, data in decode_trust(path.read_bytes()).items():
        write_durably(directory / "metadata" / name, data)
    path.unlink()


def _finish_withdrawing(directory: Path) -> None:
    path = directory / WITHDRAWING
    for name in _names(path):
        source = directory / "metadata" / name
        if source.exists():
            data = source.read_bytes()
            kept = private_folder(directory / "replaced") / f"{digest_of(data)[:12]}.{name}"
            write_durably(kept, data)
            source.unlink()
    path.unlink(missing_ok=True)


def _names(path: Path) -> list[str]:
    """A list of metadata files' names; empty where there is none."""
    try:
        names = msgspec.json.decode(path.read_bytes(), type=list[str])
        for name in names:
            parse_metadata_name(name)
    except FileNotFoundError:
        return []
    except (msgspec.MsgspecError, MalformedTrust) as error:
        raise MetadataDamaged(f"{path.name}: damaged; restore it from a backup") from error
    return names
