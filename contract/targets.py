"""What the signed TUF metadata says beside lengths and hashes: the `custom` of each target.

A release's target is its manifest, `family/version`. Two kinds of policy are targets of the top
role, so that only offline keys can change them: `policy/hub-keys` lists the keys that may sign
assignments and commands; `policy/ca` the root certificates that devices trust for TLS;
`policy/{family}` holds the family's floor. The bytes of a policy target
are the encoding of its own `custom`, so a device needs no fetch to read one.
"""

from __future__ import annotations

import binascii
from typing import Annotated, Any, TypeAlias, TypeVar

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from msgspec import Meta

from contract.envelope import PublicKey, key_id
from contract.errors import MalformedManifest
from contract.ids import Id, check_id

HUB_KEYS_TARGET = "policy/hub-keys"
CA_TARGET = "policy/ca"
MAX_ROOTS = 4
TARGET_SCHEMA = 1
PublicKeyHex = Annotated[str, Meta(pattern=r"^[0-9a-f]{64}\Z")]
RootPem = Annotated[str, Meta(min_length=1, max_length=4_096)]
Counter = Annotated[int, Meta(ge=0, le=1 << 31)]


class ReleaseCustom(msgspec.Struct, frozen=True, kw_only=True):
    """What the signer vouches for about one release."""

    schema: int = TARGET_SCHEMA
    family: Id
    counter: Counter
    """Grows with every release of the family; compared with `FamilyPolicy.min_counter`."""
    device_classes: Annotated[list[Id], Meta(max_length=32)] = []
    """Empty: every class."""
    min_agent: Annotated[str, Meta(max_length=32)] = "0"


class HubKeys(msgspec.Struct, frozen=True, kw_only=True):
    """The Ed25519 public keys (raw, hex) that may sign assignments and commands."""

    schema: int = TARGET_SCHEMA
    keys: Annotated[list[PublicKeyHex], Meta(min_length=1, max_length=8)]

    def by_id(self) -> dict[str, PublicKey]:
        """Key id (contract.envelope) -> key."""
        keys = [Ed25519PublicKey.from_public_bytes(binascii.unhexlify(k)) for k in self.keys]
        return {key_id(key): key for key in keys}


class FamilyPolicy(msgspec.Struct, frozen=True, kw_only=True):
    """Releases of the family with a counter below this one are never installed again."""

    schema: int = TARGET_SCHEMA
    min_counter: Counter


class CaPolicy(msgspec.Struct, frozen=True, kw_only=True):
    """Exactly the roots that devices trust for TLS (contract.authorities checks each)."""

    schema: int = TARGET_SCHEMA
    roots: Annotated[list[RootPem], Meta(min_length=1, max_length=MAX_ROOTS)]


Policy: TypeAlias = "HubKeys | FamilyPolicy | CaPolicy"
C = TypeVar("C", ReleaseCustom, HubKeys, FamilyPolicy, CaPolicy)


def policy_target(family: str) -> str:
    """The name of a family's policy target."""
    return f"policy/{check_id(family, 'family')}"


def encode_custom(custom: ReleaseCustom | Policy) -> bytes:
    """Canonical JSON; for a policy these are also the target's bytes."""
    return msgspec.json.encode(custom, order="sorted")


def custom_to_dict(custom: ReleaseCustom | Policy) -> dict[str, Any]:
    """The form that python-tuf's TargetFile takes."""
    found = msgspec.to_builtins(custom)
    assert isinstance(found, dict)  # noqa: S101 - narrows the type; a struct always becomes a dict
    return found


def custom_from_dict(kind: type[C], custom: object, target: str) -> C:
    """Check a target's `custom`; raises `MalformedManifest` that names the target."""
    try:
        found = msgspec.convert(custom, kind)
    except (msgspec.MsgspecError, ValueError) as error:
        raise MalformedManifest(f"target {target}: custom: {str(error)[:200]}") from error
    if found.schema != TARGET_SCHEMA:
        raise MalformedManifest(f"target {target}: schema {found.schema}; this program reads 1")
    return found
