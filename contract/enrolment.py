"""How a device gets its certificate: the enrolment file, the request and the reply.

The file carries a one-time secret. The device's request is a CSR bound to that secret by an HMAC,
and the hub's reply is bound by another, so that neither can be forged by whoever sits between. The
secret itself never travels back. HMAC-SHA256 (RFC 2104) with a label for each direction.
"""

from __future__ import annotations

import hmac
from hashlib import sha256
from typing import Annotated, TypeVar

import msgspec
from msgspec import Meta

from contract.errors import BadSignature, MalformedMessage, MessageTooLong
from contract.ids import Id, TimeMs

MAX_ENROLMENT_BYTES = 262_144
Pem = Annotated[str, Meta(max_length=32_768)]
Mac = Annotated[str, Meta(pattern=r"^[0-9a-f]{64}\Z")]
Host = Annotated[str, Meta(pattern=r"^[A-Za-z0-9.:_-]{1,253}\Z")]
Port = Annotated[int, Meta(ge=1, le=65_535)]

_REQUEST_LABEL = b"outrider enrolment request v1"
_REPLY_LABEL = b"outrider enrolment reply v1"


Said = Annotated[str, Meta(max_length=120, pattern=r"^[^\x00-\x1f\x7f-\x9f]*\Z")]
"""One printable line."""


class Claims(msgspec.Struct, frozen=True, kw_only=True):
    """What a machine says of itself, for an operator to compare; proves nothing."""

    host: Said = ""
    model: Said = ""
    serial: Said = ""


class EnrolmentFile(msgspec.Struct, frozen=True, kw_only=True):
    """What `outrider device add` writes and `outrider agent enroll` reads. Holds a secret: 0600."""

    schema: int = 1
    device: Id
    device_class: Id = "generic"
    hub_url: Annotated[str, Meta(pattern=r"^https://[^\s]{1,250}\Z")]
    ca_pem: Pem
    """The device CA's root: it also signs the hub's and the broker's certificates."""
    broker_host: Host
    broker_port: Port
    root_json: Annotated[str, Meta(max_length=131_072)]
    """TUF's root.json, version 1 or later: the device's trust anchor."""
    floor_ms: TimeMs
    """The hub's time: the device's clock is never taken to be earlier."""
    secret: Annotated[str, Meta(pattern=r"^[0-9a-f]{64}\Z")]
    expires_at_ms: TimeMs


class EnrolmentRequest(msgspec.Struct, frozen=True, kw_only=True):
    """POST /api/v1/enrol: the CSR (PEM), and the HMAC that proves knowledge of the secret."""

    schema: int = 1
    device: Id
    csr_pem: Pem
    nonce: Annotated[str, Meta(pattern=r"^[0-9a-f]{32}\Z")]
    mac: Mac
    claims: Claims = Claims()


class EnrolmentPending(msgspec.Struct, frozen=True, kw_only=True):
    """The answer (202) of a hub that asks an operator first: send the same request again later."""

    schema: int = 1
    device: Id
    key_id: Mac
    """SHA-256 of the key of the request that waits: the operator is shown the same."""
    retry_s: Annotated[int, Meta(ge=1, le=3_600)]


class EnrolmentReply(msgspec.Struct, frozen=True, kw_only=True):
    """The certificate chain (leaf first, PEM) for the key of the request."""

    schema: int = 1
    device: Id
    certificate_pem: Pem
    mac: Mac


E = TypeVar("E", EnrolmentFile, EnrolmentRequest, EnrolmentPending, EnrolmentReply)
NO_CLAIMS = Claims()


def request_mac(
    secret: str, device: str, csr_pem: str, nonce: str, claims: Claims = NO_CLAIMS
) -> str:
    """The HMAC of a request, hex. Each part is bound with its length, so none can be moved."""
    said = () if claims == NO_CLAIMS else (claims.host, claims.model, claims.serial)
    return _mac(secret, _REQUEST_LABEL, device, nonce, csr_pem, *said)


def reply_mac(secret: str, device: str, certificate_pem: str, nonce: str) -> str:
    """The HMAC of the reply to the request with this `nonce`, hex."""
    return _mac(secret, _REPLY_LABEL, device, nonce, certificate_pem)


def check_mac(expected: str, received: str, what: str) -> None:
    """Compare in constant time; raises `BadSignature` that names `what`."""
    if not hmac.compare_digest(expected, received):
        raise BadSignature(f"{what}: wrong HMAC, so it was not made with this enrolment secret")


def encode_enrolment(
    message: EnrolmentFile | EnrolmentRequest | EnrolmentPending | EnrolmentReply,
) -> bytes:
    """Readable JSON."""
    return msgspec.json.format(msgspec.json.encode(message), indent=1) + b"\n"


def decode_enrolment(kind: type[E], data: bytes) -> E:
    """Parse one enrolment message; raises `MessageTooLong` or `MalformedMessage`."""
    if len(data) > MAX_ENROLMENT_BYTES:
        raise MessageTooLong(f"{kind.__name__} of {len(data)} bytes; at most {MAX_ENROLMENT_BYTES}")
    try:
        found = msgspec.json.decode(data, type=kind)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise MalformedMessage(f"{kind.__name__}: {str(error)[:200]}") from error
    if found.schema != 1:
        raise MalformedMessage(f"{kind.__name__}: schema {found.schema}; this program reads 1")
    return found


def _mac(secret: str, label: bytes, *parts: str) -> str:
    mac = hmac.new(bytes.fromhex(secret), label, sha256)
    for part in parts:
        data = part.encode()
        mac.update(len(data).to_bytes(4, "big") + data)
    return mac.hexdigest()
