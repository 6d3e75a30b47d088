"""`request.json`: a change that waits for signatures, carried from one key holder to the next.

Holds what is in force, so that whoever signs can verify it without a network, and the drafts with
the signatures so far. Holds nothing secret. The codec and the joining of signatures; no file.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated

import msgspec
from msgspec import Meta
from tuf.api.metadata import Root, Targets

from contract.errors import MalformedTrust
from contract.trust import MAX_TRUST_FILES, ROOT, TARGETS, check_metadata_file
from converter.trust.chain import SignedTrust, trust_of
from converter.trust.drafts import Drafts
from converter.trust.errors import KeyDamaged, MetadataDamaged, RequestRefused
from converter.trust.metadata import parse
from converter.trust.named import NamedKey, require_vouched

SCHEMA = 1
MAX_REQUEST_BYTES = 32 * 1_048_576
MAX_NAMES = 64


@dataclass(frozen=True)
class Request:
    """A change: what it is for, what is in force, and what shall be."""

    purpose: str
    base: SignedTrust
    drafts: Drafts
    names: tuple[NamedKey, ...] = ()
    """What the holders before call their keys: labels that each key vouches for, and no more."""


class _RequestFile(msgspec.Struct, frozen=True):
    purpose: Annotated[str, Meta(max_length=400)]
    base: Annotated[dict[str, str], Meta(min_length=1, max_length=MAX_TRUST_FILES)]
    drafts: Annotated[dict[str, str], Meta(min_length=1, max_length=MAX_TRUST_FILES)]
    schema: int = SCHEMA
    names: Annotated[list[NamedKey], Meta(max_length=MAX_NAMES)] = []


def encode_request(request: Request) -> bytes:
    """Readable JSON around base64."""
    file = _RequestFile(
        request.purpose,
        _encoded(request.base.files),
        _encoded(request.drafts.files()),
        names=list(request.names[:MAX_NAMES]),
    )
    return msgspec.json.format(msgspec.json.encode(file), indent=1) + b"\n"


def decode_request(data: bytes) -> Request:
    """Raises `RequestRefused` when it is malformed, or what it says is in force does not verify."""
    if len(data) > MAX_REQUEST_BYTES:
        raise RequestRefused(f"a request of {len(data)} bytes; at most {MAX_REQUEST_BYTES}")
    try:
        file = msgspec.json.decode(data, type=_RequestFile)
        if file.schema != SCHEMA:
            raise RequestRefused(f"a request of schema {file.schema}; this program reads {SCHEMA}")
        base = trust_of(_decoded(file.base))
        drafts = _drafts(_decoded(file.drafts))
        for key in file.names:
            require_vouched(key)
    except (msgspec.MsgspecError, binascii.Error, ValueError, RecursionError) as error:
        raise RequestRefused(f"not a signing request: {str(error)[:200]}") from error
    except (MalformedTrust, MetadataDamaged, KeyDamaged) as error:
        raise RequestRefused(f"the request does not verify: {error}") from error
    return Request(file.purpose, base, drafts, tuple(file.names))


def join(drafts: Drafts, other: Drafts) -> bool:
    """Add the signatures of `other`, if it is the same change; whether it is."""
    mine, theirs = drafts.roles(), other.roles()
    same = mine.keys() == theirs.keys() and all(
        metadata.signed_bytes == theirs[role].signed_bytes for role, metadata in mine.items()
    )
    if same:
        for role, metadata in mine.items():
            for keyid, signature in theirs[role].signatures.items():
                metadata.signatures.setdefault(keyid, signature)
    return same


def _drafts(files: Mapping[str, bytes]) -> Drafts:
    drafts = Drafts()
    for name, data in files.items():
        role, version = check_metadata_file(name, data)
        if role == ROOT:
            drafts.root = parse(Root, data, name)
        elif role == TARGETS:
            drafts.targets = parse(Targets, data, name)
        else:
            drafts.families[role] = parse(Targets, data, name)
        if drafts.roles()[role].signed.version != version:
            raise RequestRefused(f"{name}: says another version")
    return drafts


def _encoded(files: Mapping[str, bytes]) -> dict[str, str]:
    return {name: base64.b64encode(data).decode() for name, data in sorted(files.items())}


def _decoded(files: Mapping[str, str]) -> dict[str, bytes]:
    decoded = {name: base64.b64decode(text, validate=True) for name, text in files.items()}
    for name, data in decoded.items():
        check_metadata_file(name, data)
    return decoded
