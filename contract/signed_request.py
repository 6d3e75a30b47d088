"""What a device asks of the hub over HTTPS, signed with the key of its certificate.

A DSSE envelope over the exact bytes of one kind of request, so that a signature under one kind says
nothing under another. Parsed before it is verified, since the request names whose key it takes:
nothing may be done with it before `check`. Which requests there are is not known here.
"""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.ec import (
    ECDSA,
    EllipticCurvePrivateKey,
    EllipticCurvePublicKey,
)

from contract.envelope import Envelope, Signature, key_id, pre_authentication_encoding
from contract.errors import BadSignature, MalformedMessage, MessageTooLong

SCHEMA = 1


class Request(Protocol):
    """A frozen msgspec struct."""

    @property
    def schema(self) -> int:
        """Of the request's fields."""


R = TypeVar("R", bound=Request)


@dataclass(frozen=True)
class Kind(Generic[R]):
    """One kind of request: its name for people and for DSSE, its fields, and its longest body."""

    name: str
    payload_type: str
    fields: type[R]
    max_bytes: int


@dataclass(frozen=True)
class SignedRequest(Generic[R]):
    """A request as it came: parsed, and not yet verified."""

    kind: Kind[R]
    request: R
    payload: bytes
    signature: bytes

    def check(self, key: EllipticCurvePublicKey) -> None:
        """Raises `BadSignature` unless this key signed these very bytes."""
        signed = pre_authentication_encoding(self.kind.payload_type, self.payload)
        try:
            key.verify(self.signature, signed, ECDSA(hashes.SHA256()))
        except InvalidSignature as error:
            raise BadSignature(f"{self.kind.name}: not signed by this device's key") from error


def sign(kind: Kind[R], request: R, key: EllipticCurvePrivateKey) -> bytes:
    """The body of the HTTPS request."""
    payload = msgspec.json.encode(request)
    signed = pre_authentication_encoding(kind.payload_type, payload)
    signature = base64.b64encode(key.sign(signed, ECDSA(hashes.SHA256()))).decode()
    envelope = Envelope(
        payload=base64.b64encode(payload).decode(),
        payloadType=kind.payload_type,
        signatures=[Signature(key_id(key.public_key()), signature)],
    )
    return msgspec.json.encode(envelope)


def read(kind: Kind[R], data: bytes) -> SignedRequest[R]:
    """Parse a request's body; raises `MessageTooLong` or `MalformedMessage`."""
    if len(data) > kind.max_bytes:
        raise MessageTooLong(f"{kind.name} of {len(data)} bytes; at most {kind.max_bytes}")
    try:
        envelope = msgspec.json.decode(data, type=Envelope)
        payload = base64.b64decode(envelope.payload, validate=True)
        signature = base64.b64decode(envelope.signatures[0].sig, validate=True)
        request = msgspec.json.decode(payload, type=kind.fields)
    except (msgspec.MsgspecError, binascii.Error, ValueError, RecursionError) as error:
        raise MalformedMessage(f"{kind.name}: {str(error)[:200]}") from error
    if envelope.payloadType != kind.payload_type or request.schema != SCHEMA:
        raise MalformedMessage(f"{kind.name}: of a type or schema that this program cannot read")
    return SignedRequest(kind, request, payload, signature)
