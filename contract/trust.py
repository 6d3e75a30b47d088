"""TUF's roles and files as the three programs name them, and the files that carry public trust.

Owns role names, lifetimes, sizes, the rule that one key counts once, and the codecs of `trust.json`
(signed metadata, workstation to hub) and `hub-keys.json` (public keys, hub to workstation). It
verifies no signature: that is python-tuf's, in each program.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterable, Mapping
from typing import Annotated

import msgspec
from msgspec import Meta

from contract.errors import InvalidId, MalformedTrust
from contract.ids import Id, check_id
from contract.targets import TARGET_SCHEMA, PublicKeyHex

ROOT = "root"
TARGETS = "targets"
SNAPSHOT = "snapshot"
TIMESTAMP = "timestamp"
TOP_ROLES = (ROOT, TARGETS, SNAPSHOT, TIMESTAMP)
TIMESTAMP_FILE = "timestamp.json"

RESERVED_FAMILIES = frozenset({*TOP_ROLES, "policy", "hub-keys", "ca", "online"})
"""A family's name is a role's name, and the second half of `policy/{family}`. `online` stands for
the hub's roles where keys are rotated."""

DAY_MS = 86_400_000
LIFETIME_MS = {ROOT: 365 * DAY_MS, TARGETS: 90 * DAY_MS, SNAPSHOT: 7 * DAY_MS, TIMESTAMP: DAY_MS}
FAMILY_LIFETIME_MS = 90 * DAY_MS
_WARN_BEFORE_MS = {
    ROOT: 30 * DAY_MS,
    TARGETS: 21 * DAY_MS,
    SNAPSHOT: 2 * DAY_MS,
    TIMESTAMP: DAY_MS // 4,
}
_FAMILY_WARN_BEFORE_MS = 14 * DAY_MS
ISSUED_AT = "issued_at_ms"
"""The field of timestamp.json that raises every device's clock floor."""

MAX_ROOT_BYTES = 131_072
MAX_TIMESTAMP_BYTES = 16_384
MAX_SNAPSHOT_BYTES = 262_144
MAX_TARGETS_BYTES = 524_288
MAX_VERSION = 999_999_999
"""Of any metadata file: nine digits, as its name may have."""
MAX_TRUST_BYTES = 16 * 1_048_576
MAX_TRUST_FILES = 1_024

_NAME = re.compile(r"^([1-9][0-9]{0,8})\.([a-z0-9][a-z0-9-]{0,62})\.json\Z")


class HubPublicKeys(msgspec.Struct, frozen=True, kw_only=True):
    """`hub-keys.json`: the public halves of the hub's online Ed25519 keys (raw, hex)."""

    schema: int = TARGET_SCHEMA
    hub: Id = "hub"
    snapshot: PublicKeyHex
    timestamp: PublicKeyHex
    assignment: PublicKeyHex


class _TrustFile(msgspec.Struct, frozen=True):
    files: Annotated[dict[str, str], Meta(min_length=1, max_length=MAX_TRUST_FILES)]


def check_family(name: str) -> str:
    """Return `name` when a model family may have it; raise `InvalidId` otherwise."""
    check_id(name, "family")
    if name in RESERVED_FAMILIES:
        raise InvalidId(f"family {name!r} is a name that TUF or a policy already has: take another")
    return name


def warn_before_ms(role: str) -> int:
    """How long before its expiry a role is due. Root takes two people, so it is told of first."""
    return _WARN_BEFORE_MS.get(role, _FAMILY_WARN_BEFORE_MS)


def metadata_name(role: str, version: int) -> str:
    """`digits`, 2 -> `2.digits.json`; the timestamp alone carries no version in its name."""
    return TIMESTAMP_FILE if role == TIMESTAMP else f"{version}.{role}.json"


def parse_metadata_name(name: str) -> tuple[str, int]:
    """`2.digits.json` -> (`digits`, 2); raises `MalformedTrust`."""
    match = _NAME.match(name)
    if match is None:
        raise MalformedTrust(f"{name[:80]!r} is not of the form VERSION.ROLE.json")
    return match.group(2), int(match.group(1))


def check_role_keys(role: str, threshold: int, keys: Iterable[tuple[str, str, object]]) -> None:
    """Refuse keys that are not Ed25519, and one key that would count twice under two key ids.

    `keys` are (key type, scheme, public key in hex) of those that may sign for `role`. TUF counts
    key ids, not keys, so that a threshold of two could otherwise be one person's.
    """
    seen: set[bytes] = set()
    for keytype, scheme, public in keys:
        if (keytype, scheme) != ("ed25519", "ed25519"):
            raise MalformedTrust(f"role {role}: a key of type {keytype}/{scheme}, not Ed25519")
        seen.add(_raw_key(role, public, seen))
    if threshold < 1 or len(seen) < threshold:
        raise MalformedTrust(f"role {role}: {len(seen)} keys for a threshold of {threshold}")


def _raw_key(role: str, public: object, seen: set[bytes]) -> bytes:
    try:
        raw = bytes.fromhex(public) if isinstance(public, str) else b""
    except ValueError:
        raw = b""
    if len(raw) != 32:
        raise MalformedTrust(f"role {role}: a public key that is not 32 bytes in hex")
    if raw in seen:
        raise MalformedTrust(f"role {role}: two key ids name the same key, which would count twice")
    return raw


def encode_hub_public_keys(keys: HubPublicKeys) -> bytes:
    """Readable JSON."""
    return msgspec.json.format(msgspec.json.encode(keys), indent=1) + b"\n"


def decode_hub_public_keys(data: bytes) -> HubPublicKeys:
    """Parse `hub-keys.json`; raises `MalformedTrust`."""
    if len(data) > 4_096:
        raise MalformedTrust(f"hub-keys.json of {len(data)} bytes; at most 4096")
    try:
        keys = msgspec.json.decode(data, type=HubPublicKeys)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise MalformedTrust(f"hub-keys.json: {str(error)[:200]}") from error
    if keys.schema != TARGET_SCHEMA:
        raise MalformedTrust(f"hub-keys.json: schema {keys.schema}; this program reads 1")
    if len({keys.snapshot, keys.timestamp, keys.assignment}) != 3:
        raise MalformedTrust("hub-keys.json: one key stands in two roles; each needs its own")
    return keys


def encode_trust(files: Mapping[str, bytes]) -> bytes:
    """`trust.json`: signed metadata files by name, e.g. `1.root.json`."""
    encoded = {name: base64.b64encode(data).decode() for name, data in sorted(files.items())}
    return msgspec.json.format(msgspec.json.encode({"files": encoded}), indent=1) + b"\n"


def decode_trust(data: bytes) -> dict[str, bytes]:
    """Parse `trust.json`; raises `MalformedTrust`. Names and sizes are checked, nothing else."""
    if len(data) > MAX_TRUST_BYTES:
        raise MalformedTrust(f"trust.json of {len(data)} bytes; at most {MAX_TRUST_BYTES}")
    try:
        encoded = msgspec.json.decode(data, type=_TrustFile).files
        files = {name: base64.b64decode(text, validate=True) for name, text in encoded.items()}
    except (msgspec.MsgspecError, binascii.Error, ValueError, RecursionError) as error:
        raise MalformedTrust(f"trust.json: {str(error)[:200]}") from error
    for name, content in files.items():
        check_metadata_file(name, content)
    return files


def check_metadata_file(name: str, content: bytes) -> tuple[str, int]:
    """The (role, version) that a file's name says; raises `MalformedTrust` also when too long."""
    role, version = parse_metadata_name(name)
    limit = MAX_ROOT_BYTES if role == ROOT else MAX_TARGETS_BYTES
    if len(content) > limit:
        raise MalformedTrust(f"{name}: {len(content)} bytes; at most {limit}")
    return role, version
