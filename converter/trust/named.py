"""A public key under a name: what its holder says of it, and the key's own signature under that.

The value and its check; where it is kept is another matter. A name is a label and grants nothing.
"""

from __future__ import annotations

from typing import Annotated

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from msgspec import Meta

from contract.ids import Id
from contract.targets import TARGET_SCHEMA, PublicKeyHex
from converter.trust.errors import KeyDamaged
from converter.trust.metadata import public_key

_CONTEXT = b"outrider public key\n"


class NamedKey(msgspec.Struct, frozen=True, kw_only=True):
    """One public key, its name, and who says to hold it."""

    schema: int = TARGET_SCHEMA
    name: Id
    holder: Annotated[str, Meta(max_length=120)] = ""
    public: PublicKeyHex
    proof: Annotated[str, Meta(pattern=r"^[0-9a-f]{128}\Z")]
    """A signature over the rest, by the key itself."""

    @property
    def keyid(self) -> str:
        """As signed metadata names it."""
        return public_key(self.public).keyid


def require_vouched(key: NamedKey, where: str = "") -> None:
    """Raises `KeyDamaged` unless the key itself signed its name and holder."""
    where = where or f"{key.name}.json"
    try:
        raw = Ed25519PublicKey.from_public_bytes(bytes.fromhex(key.public))
        raw.verify(bytes.fromhex(key.proof), statement(key.name, key.holder, key.public))
    except ValueError as error:
        raise KeyDamaged(f"{where}: not a public key file ({str(error)[:200]})") from error
    except InvalidSignature as error:
        raise KeyDamaged(f"{where}: altered since it was made; fetch it again") from error


def statement(name: str, holder: str, public: str) -> bytes:
    """What a key signs to vouch for its public file."""
    return _CONTEXT + msgspec.json.encode([name, holder, public])
