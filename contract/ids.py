"""Names and digests: their form, and nothing else.

An id is what may stand in a topic, a file name and a certificate's subject alike.
"""

from __future__ import annotations

import hashlib
import re
from typing import Annotated

from msgspec import Meta

from contract.errors import DigestMismatch, InvalidId

ID_PATTERN = r"^[a-z0-9][a-z0-9-]{0,62}\Z"
DIGEST_PATTERN = r"^[0-9a-f]{64}\Z"
VERSION_PATTERN = r"^[a-z0-9][a-z0-9.-]{0,62}\Z"
TARGET_PATTERN = r"^[a-z0-9][a-z0-9-]{0,62}/[a-z0-9][a-z0-9.-]{0,62}\Z"

RESERVED_PREFIX = "hub"
"""Device ids with this prefix would collide with the hub's own broker user."""

Id = Annotated[str, Meta(pattern=ID_PATTERN)]
Digest = Annotated[str, Meta(pattern=DIGEST_PATTERN)]
"""SHA-256, lower-case hex."""
Version = Annotated[str, Meta(pattern=VERSION_PATTERN)]
TargetName = Annotated[str, Meta(pattern=TARGET_PATTERN)]
"""`{family}/{version}`: the TUF target path of a release's manifest."""
TimeMs = Annotated[int, Meta(ge=0, le=1 << 53)]
"""UTC milliseconds since 1970."""

_ID = re.compile(ID_PATTERN)
_VERSION = re.compile(VERSION_PATTERN)
_DIGEST = re.compile(DIGEST_PATTERN)


def check_id(text: str, what: str = "id") -> str:
    """Return `text` when it is an id; raise `InvalidId` that names `what` otherwise.

    Also for what is no text at all: python-tuf passes a role's name on as the JSON has it.
    """
    if type(text) is not str or not _ID.match(text):
        raise InvalidId(
            f"{what} {str(text)[:80]!r} is not valid: use 1 to 63 of a-z, 0-9 and '-',"
            " starting with a letter or a digit"
        )
    return text


def check_device_id(text: str) -> str:
    """Like `check_id`, and refuses the names kept for the hub."""
    check_id(text, "device name")
    if text.startswith(RESERVED_PREFIX):
        raise InvalidId(f"device name {text!r} is reserved: names may not start with 'hub'")
    return text


def check_version(text: str) -> str:
    """Return `text` when it can stand as a release's version; raise `InvalidId` otherwise."""
    if not _VERSION.match(text):
        raise InvalidId(f"version {text[:80]!r} is not valid: use 1 to 63 of a-z, 0-9, '.' and '-'")
    return text


def is_digest(text: str) -> bool:
    """Whether `text` is a lower-case hexadecimal SHA-256."""
    return _DIGEST.match(text) is not None


def target_name(family: str, version: str) -> str:
    """The TUF target path of a release, e.g. `digits/2`."""
    return f"{check_id(family, 'family')}/{check_version(version)}"


def split_target(target: str) -> tuple[str, str]:
    """`digits/2` -> (`digits`, `2`); raises `InvalidId`."""
    family, slash, version = target.partition("/")
    if not slash:
        raise InvalidId(f"release {target[:80]!r} is not of the form family/version")
    return check_id(family, "family"), check_version(version)


def parse_release(text: str) -> tuple[str, str]:
    """`digits:2`, as people write a release, -> (`digits`, `2`); raises `InvalidId`."""
    family, colon, version = text.partition(":")
    if not colon:
        raise InvalidId(f"release {text[:80]!r} is not of the form FAMILY:VERSION, e.g. digits:2")
    return check_id(family, "family"), check_version(version)


def digest_of(data: bytes) -> str:
    """SHA-256 of `data` as lower-case hex."""
    return hashlib.sha256(data).hexdigest()


def require_digest(data: bytes, expected: str, what: str) -> bytes:
    """Return `data` when its SHA-256 is `expected`; raise `DigestMismatch` that names `what`."""
    require_same_digest(digest_of(data), expected, what)
    return data


def require_same_digest(actual: str, expected: str, what: str) -> None:
    """Raise `DigestMismatch` that names `what`, for bytes that were hashed piece by piece."""
    if actual != expected:
        raise DigestMismatch(f"{what}: expected sha256 {expected[:16]}…, got {actual[:16]}…")
