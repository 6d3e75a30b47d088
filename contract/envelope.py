"""DSSE envelopes: signatures over exact bytes, checked before those bytes are parsed.

Protocol: Dead Simple Signing Envelope v1.0 (github.com/secure-systems-lab/dsse). The hub signs with
Ed25519; a device signs with its certificate's ECDSA P-256 key. Holds no keys and reads no files.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from typing import Annotated, TypeAlias

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric.ec import (
    ECDSA,
    EllipticCurvePrivateKey,
    EllipticCurvePublicKey,
)
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from msgspec import Meta

from contract import messages as m
from contract.codec import MAX_BYTES, decode_any, encode, kind_of
from contract.errors import BadSignature, MalformedMessage, MessageTooLong
from contract.ids import digest_of

PrivateKey: TypeAlias = Ed25519PrivateKey | EllipticCurvePrivateKey
PublicKey: TypeAlias = Ed25519PublicKey | EllipticCurvePublicKey
PAYLOAD_TYPE = "application/vnd.outrider.{kind}+json"


class Signature(msgspec.Struct, frozen=True):
    """One signature: the signer's key id (a hint) and the base64 of its bytes."""

    keyid: Annotated[str, Meta(max_length=128)]
    sig: Annotated[str, Meta(max_length=1024)]


class Envelope(msgspec.Struct, frozen=True):
    """A DSSE envelope in its JSON form."""

    payload: str
    payloadType: Annotated[str, Meta(max_length=128)]  # DSSE's own spelling
    signatures: Annotated[list[Signature], Meta(min_length=1, max_length=4)]


_DECODER = msgspec.json.Decoder(Envelope)


def pre_authentication_encoding(payload_type: str, payload: bytes) -> bytes:
    """DSSE's PAE: the bytes that are signed, binding the payload to its type."""
    kind = payload_type.encode()
    return b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(payload), payload)


def key_id(key: PublicKey) -> str:
    """SHA-256 of the key's DER SubjectPublicKeyInfo."""
    return digest_of(
        key.public_bytes(
            serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        )
    )


def seal(message: m.Message, key: PrivateKey) -> bytes:
    """Encode and sign one message; returns the envelope's JSON."""
    payload = encode(message)
    payload_type = PAYLOAD_TYPE.format(kind=kind_of(type(message)))
    signature = _sign(key, pre_authentication_encoding(payload_type, payload))
    return msgspec.json.encode(
        Envelope(
            payload=base64.b64encode(payload).decode(),
            payloadType=payload_type,
            signatures=[Signature(key_id(key.public_key()), base64.b64encode(signature).decode())],
        )
    )


def open_sealed(
    kinds: tuple[type[m.Message], ...], data: bytes, keys: Mapping[str, PublicKey]
) -> m.Message:
    """Verify an envelope against `keys` (key id -> key), then parse what is inside.

    Raises `BadSignature` when no key in `keys` signed these very bytes, and another
    `ContractError` when the envelope or the message is malformed or too long.
    """
    envelope, payload = _unwrap(kinds, data)
    if not any(_is_good(envelope, payload, signature, keys) for signature in envelope.signatures):
        raise BadSignature(f"{envelope.payloadType}: not signed by a key that is trusted for it")
    return _parse(kinds, envelope.payloadType, payload)


def peek(kinds: tuple[type[m.Message], ...], data: bytes) -> m.Message:
    """Parse an envelope's message *without* verifying it.

    Only for choosing what to fetch before verification is possible; never act on the result.
    """
    envelope, payload = _unwrap(kinds, data)
    return _parse(kinds, envelope.payloadType, payload)


def _unwrap(kinds: tuple[type[m.Message], ...], data: bytes) -> tuple[Envelope, bytes]:
    limit = 2 * max(MAX_BYTES[kind] for kind in kinds) + 4_096
    if len(data) > limit:
        raise MessageTooLong(f"envelope of {len(data)} bytes; at most {limit}")
    try:
        envelope = _DECODER.decode(data)
        return envelope, base64.b64decode(envelope.payload, validate=True)
    except (msgspec.MsgspecError, binascii.Error, ValueError, RecursionError) as error:
        raise MalformedMessage(f"not a DSSE envelope: {str(error)[:200]}") from error


def _parse(kinds: tuple[type[m.Message], ...], payload_type: str, payload: bytes) -> m.Message:
    message = decode_any(kinds, payload)
    if payload_type != PAYLOAD_TYPE.format(kind=kind_of(type(message))):
        raise MalformedMessage(f"payload type {payload_type!r} does not match the message inside")
    return message


def _is_good(
    envelope: Envelope, payload: bytes, signature: Signature, keys: Mapping[str, PublicKey]
) -> bool:
    key = keys.get(signature.keyid)
    if key is None:
        return False
    signed = pre_authentication_encoding(envelope.payloadType, payload)
    try:
        _verify(key, base64.b64decode(signature.sig, validate=True), signed)
    except (InvalidSignature, binascii.Error, ValueError):
        return False
    return True


def _sign(key: PrivateKey, data: bytes) -> bytes:
    if isinstance(key, Ed25519PrivateKey):
        return key.sign(data)
    return key.sign(data, ECDSA(hashes.SHA256()))


def _verify(key: PublicKey, signature: bytes, data: bytes) -> None:
    if isinstance(key, Ed25519PublicKey):
        key.verify(signature, data)
    else:
        key.verify(signature, data, ECDSA(hashes.SHA256()))
