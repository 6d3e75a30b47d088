"""How a device gets its next certificate: a request signed with the key that it has, and the reply.

A DSSE envelope over the exact bytes of the request, made with the certificate's own key. The time
inside bounds how long a copy is of use; the hub says its own time where a device's clock is off, as
after months without power. Nothing here is secret: the certificate is of no use without the key.
"""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass
from typing import Annotated

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.ec import (
    ECDSA,
    EllipticCurvePrivateKey,
    EllipticCurvePublicKey,
)
from msgspec import Meta

from contract.enrolment import Pem
from contract.envelope import Envelope, Signature, key_id, pre_authentication_encoding
from contract.errors import BadSignature, MalformedMessage, MessageTooLong
from contract.ids import Id, TimeMs

MAX_RENEWAL_BYTES = 131_072
PAYLOAD_TYPE = "application/vnd.outrider.renewal+json"
TIME_HEADER = "Outrider-Time-Ms"
"""The hub's time, on the answer that refuses a request for its time."""
Nonce = Annotated[str, Meta(pattern=r"^[0-9a-f]{32}\Z")]


class RenewalRequest(msgspec.Struct, frozen=True, kw_only=True):
    """The CSR is for the key that signs the envelope; `at_ms` is the device's time."""

    schema: int = 1
    device: Id
    csr_pem: Pem
    nonce: Nonce
    at_ms: TimeMs


class RenewalReply(msgspec.Struct, frozen=True, kw_only=True):
    """The newest certificate chain (leaf first, PEM); the same as before while none is due."""

    schema: int = 1
    device: Id
    nonce: Nonce
    """The request's: the answer to an older one is not taken for this one's."""
    certificate_pem: Pem


@dataclass(frozen=True)
class SignedRenewal:
    """A request as it came: parsed, and not yet verified."""

    request: RenewalRequest
    payload: bytes
    signature: bytes

    def check(self, key: EllipticCurvePublicKey) -> None:
        """Raises `BadSignature` unless this key signed these very bytes."""
        signed = pre_authentication_encoding(PAYLOAD_TYPE, self.payload)
        try:
            key.verify(self.signature, signed, ECDSA(hashes.SHA256()))
        except InvalidSignature as error:
            raise BadSignature("renewal request: not signed by this device's key") from error


def sign_renewal(request: RenewalRequest, key: EllipticCurvePrivateKey) -> bytes:
    """The body of `POST /api/v1/renew`."""
    payload = msgspec.json.encode(request)
    signed = pre_authentication_encoding(PAYLOAD_TYPE, payload)
    signature = base64.b64encode(key.sign(signed, ECDSA(hashes.SHA256()))).decode()
    envelope = Envelope(
        payload=base64.b64encode(payload).decode(),
        payloadType=PAYLOAD_TYPE,
        signatures=[Signature(key_id(key.public_key()), signature)],
    )
    return msgspec.json.encode(envelope)


def read_renewal(data: bytes) -> SignedRenewal:
    """Parse a request's body; raises `MessageTooLong` or `MalformedMessage`."""
    if len(data) > MAX_RENEWAL_BYTES:
        raise MessageTooLong(f"renewal of {len(data)} bytes; at most {MAX_RENEWAL_BYTES}")
    try:
        envelope = msgspec.json.decode(data, type=Envelope)
        payload = base64.b64decode(envelope.payload, validate=True)
        signature = base64.b64decode(envelope.signatures[0].sig, validate=True)
        request = msgspec.json.decode(payload, type=RenewalRequest)
    except (msgspec.MsgspecError, binascii.Error, ValueError, RecursionError) as error:
        raise MalformedMessage(f"renewal request: {str(error)[:200]}") from error
    if envelope.payloadType != PAYLOAD_TYPE or request.schema != 1:
        raise MalformedMessage("renewal request: of a type or schema that this program cannot read")
    return SignedRenewal(request, payload, signature)


def encode_reply(reply: RenewalReply) -> bytes:
    """Readable JSON."""
    return msgspec.json.format(msgspec.json.encode(reply), indent=1) + b"\n"


def decode_reply(data: bytes) -> RenewalReply:
    """Parse a reply; raises `MessageTooLong` or `MalformedMessage`."""
    if len(data) > MAX_RENEWAL_BYTES:
        raise MessageTooLong(f"renewal reply of {len(data)} bytes; at most {MAX_RENEWAL_BYTES}")
    try:
        reply = msgspec.json.decode(data, type=RenewalReply)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise MalformedMessage(f"renewal reply: {str(error)[:200]}") from error
    if reply.schema != 1:
        raise MalformedMessage(f"renewal reply: schema {reply.schema}; this program reads 1")
    return reply
