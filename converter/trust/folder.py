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
from pathlib import Path

from contract.trust import ROOT, decode_trust, encode_trust, metadata_name
from converter.trust.chain import SignedTrust, trust_of
from converter.trust.errors import KeysNotFound
from converter.trust.keyfiles import private_folder, write_durably

TRUST_FILE = "trust.json"
INSTALLING = "installing.json"
"""Files on their way into `metadata/`: once this one is whole, all of them get there."""


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


def _no_keys(directory: Path) -> KeysNotFound:
    return KeysNotFound(f"{directory} holds no keys: run `outrider keys init` first")


def _finish_installing(directory: Path) -> None:
    path = directory / INSTALLING
    if not path.exists():
        return
    for name, data in decode_trust(path.read_bytes()).items():
        write_durably(directory / "metadata" / name, data)
    path.unlink()
