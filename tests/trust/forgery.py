"""Metadata that should not exist, made with keys that an attacker may or may not have."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import Metadata
from tuf.api.serialization.json import JSONSerializer

from converter.trust.folder import private_key
from converter.trust.keyfiles import load_key
from fleet.trust import online
from tests.trust.ceremony import PASSPHRASE, World


def offline(world: World, *names: str) -> list[CryptoSigner]:
    """Stolen offline keys: `root-1`, `targets-1`, `family-digits`."""
    return [load_key(private_key(world.keys, name), PASSPHRASE) for name in names]


def stolen_online(world: World, role: str) -> CryptoSigner:
    """A stolen online key."""
    return online.signer(world.repository.keys, role)


def stranger() -> CryptoSigner:
    """A key that nobody trusts."""
    return CryptoSigner(Ed25519PrivateKey.generate())


def forge(data: bytes, change: Callable[[Any], object], signers: Sequence[CryptoSigner]) -> bytes:
    """The same metadata after `change`, signed by `signers` alone."""
    metadata: Metadata[Any] = Metadata.from_bytes(data)
    change(metadata.signed)
    metadata.signatures.clear()
    for signer in signers:
        metadata.sign(signer, append=True)
    return metadata.to_bytes(JSONSerializer(compact=True))


def bump(signed: Any) -> None:
    """The next version."""
    signed.version += 1
