"""The hub's own keys: snapshot, timestamp and assignment, Ed25519, PEM, 0600, unencrypted.

Unencrypted because the hub signs without a person present; what a thief of them could do is bounded
by the offline roles. New keys wait in `next/` until signed metadata names them; only then do they
take the place of the old ones, which are gone with that.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)
from securesystemslib.signer import CryptoSigner

from contract.trust import SNAPSHOT, TIMESTAMP, HubPublicKeys
from fleet.files import write_whole
from fleet.trust.errors import OnlineKeysDamaged

ASSIGNMENT = "assignment"
ONLINE_KEYS = (SNAPSHOT, TIMESTAMP, ASSIGNMENT)
NEXT = "next"
MAX_KEY_BYTES = 16_384


def create_keys(folder: Path) -> list[str]:
    """Make the keys that are missing; returns their names."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    folder.chmod(0o700)
    missing = [name for name in ONLINE_KEYS if not _path(folder, name).exists()]
    for name in missing:
        key = Ed25519PrivateKey.generate()
        pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        write_whole(_path(folder, name), pem, 0o600)
    return missing


def load(folder: Path, name: str) -> Ed25519PrivateKey:
    """Raises `OnlineKeysDamaged` that names the file."""
    path = _path(folder, name)
    try:
        with path.open("rb") as file:
            key = load_pem_private_key(file.read(MAX_KEY_BYTES), None)
    except OSError as error:
        raise OnlineKeysDamaged(
            f"{path}: {error.strerror}; restore the hub's keys from its backup"
        ) from error
    except (ValueError, TypeError) as error:
        raise OnlineKeysDamaged(f"{path}: not a PEM key; restore it from its backup") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise OnlineKeysDamaged(f"{path}: not an Ed25519 key; restore it from its backup")
    return key


def signer(folder: Path, role: str) -> CryptoSigner:
    """The TUF signer of one online role."""
    return CryptoSigner(load(folder, role))


def public_keys(folder: Path, hub: str) -> HubPublicKeys:
    """What the key ceremony needs of the hub."""
    return HubPublicKeys(
        hub=hub,
        snapshot=_public_hex(load(folder, SNAPSHOT)),
        timestamp=_public_hex(load(folder, TIMESTAMP)),
        assignment=_public_hex(load(folder, ASSIGNMENT)),
    )


def promote(folder: Path, named: Mapping[str, Collection[str]]) -> list[str]:
    """Put those waiting keys in force that are `named`: name -> public keys in hex that signed
    metadata lists. One rename each, so that a run that was cut short is finished by the next."""
    waiting = folder / NEXT
    due = [
        name
        for name in ONLINE_KEYS
        if _path(waiting, name).exists() and _public_hex(load(waiting, name)) in named[name]
    ]
    for name in due:
        _move(_path(waiting, name), _path(folder, name))
    if due and not any(_path(waiting, name).exists() for name in ONLINE_KEYS):
        waiting.rmdir()
    return due


def _public_hex(key: Ed25519PrivateKey) -> str:
    return key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw).hex()


def _path(folder: Path, name: str) -> Path:
    return folder / f"{name}.pem"


def _move(source: Path, destination: Path) -> None:
    os.replace(source, destination)
