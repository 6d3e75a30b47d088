"""How a device gets its next certificate: a request signed with the key that it has, and the reply.

The request is a signed one (contract.signed_request), made with the certificate's own key. The time
inside bounds how long a copy is of use; the hub says its own time where a device's clock is off, as
after months without power. Nothing here is secret: the certificate is of no use without the key.
"""

from __future__ import annotations

from typing import Annotated, TypeAlias

import msgspec
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from msgspec import Meta

from contract.enrolment import Pem
from contract.errors import MalformedMessage, MessageTooLong
from contract.ids import Id, TimeMs
from contract.signed_request import Kind, SignedRequest, read, sign

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


SignedRenewal: TypeAlias = SignedRequest[RenewalRequest]
_KIND = Kind("renewal request", PAYLOAD_TYPE, RenewalRequest, MAX_RENEWAL_BYTES)


def sign_renewal(request: RenewalRequest, key: EllipticCurvePrivateKey) -> bytes:
    """The body of `POST /api/v1/renew`."""
    return sign(_KIND, request, key)


def read_renewal(data: bytes) -> SignedRenewal:
    """Parse a request's body; raises `MessageTooLong` or `MalformedMessage`."""
    return read(_KIND, data)


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
