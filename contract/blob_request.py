"""How a device asks the hub for blobs over HTTPS, and the stream of records that answers it.

The request is a DSSE envelope over its exact bytes, made with the key of the device's certificate;
the time inside bounds how long a copy is of use. The answer holds a record for each digest, in the
order asked: 32 bytes of digest, the payload's length as u32 big-endian, the framed payload
(model.chunks). Length 0 says that the hub does not give this one. Reads no sockets.
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

from contract.envelope import Envelope, Signature, key_id, pre_authentication_encoding
from contract.errors import BadSignature, MalformedBlob, MalformedMessage, MessageTooLong
from contract.ids import Digest, Id, TargetName, TimeMs
from contract.manifest import MAX_CHUNK_BYTES

MAX_REQUEST_BYTES = 32_768
MAX_DIGESTS = 128
PAYLOAD_TYPE = "application/vnd.outrider.blob-request+json"
STREAM_TYPE = "application/vnd.outrider.blobs"
HEAD_BYTES = 36
MAX_PAYLOAD_BYTES = MAX_CHUNK_BYTES + 1
"""A framed blob is never longer than the blob and its tag."""


class BlobRequest(msgspec.Struct, frozen=True, kw_only=True):
    """`at_ms` is the device's time; the blobs are those of `target`."""

    schema: int = 1
    device: Id
    target: TargetName
    digests: Annotated[list[Digest], Meta(min_length=1, max_length=MAX_DIGESTS)]
    at_ms: TimeMs


@dataclass(frozen=True)
class SignedBlobRequest:
    """A request as it came: parsed, and not yet verified."""

    request: BlobRequest
    payload: bytes
    signature: bytes

    def check(self, key: EllipticCurvePublicKey) -> None:
        """Raises `BadSignature` unless this key signed these very bytes."""
        signed = pre_authentication_encoding(PAYLOAD_TYPE, self.payload)
        try:
            key.verify(self.signature, signed, ECDSA(hashes.SHA256()))
        except InvalidSignature as error:
            raise BadSignature("blob request: not signed by this device's key") from error


def sign_blob_request(request: BlobRequest, key: EllipticCurvePrivateKey) -> bytes:
    """The body of `POST /api/v1/blobs`."""
    payload = msgspec.json.encode(request)
    signed = pre_authentication_encoding(PAYLOAD_TYPE, payload)
    signature = base64.b64encode(key.sign(signed, ECDSA(hashes.SHA256()))).decode()
    envelope = Envelope(
        payload=base64.b64encode(payload).decode(),
        payloadType=PAYLOAD_TYPE,
        signatures=[Signature(key_id(key.public_key()), signature)],
    )
    return msgspec.json.encode(envelope)


def read_blob_request(data: bytes) -> SignedBlobRequest:
    """Parse a request's body; raises `MessageTooLong` or `MalformedMessage`."""
    if len(data) > MAX_REQUEST_BYTES:
        raise MessageTooLong(f"blob request of {len(data)} bytes; at most {MAX_REQUEST_BYTES}")
    try:
        envelope = msgspec.json.decode(data, type=Envelope)
        payload = base64.b64decode(envelope.payload, validate=True)
        signature = base64.b64decode(envelope.signatures[0].sig, validate=True)
        request = msgspec.json.decode(payload, type=BlobRequest)
    except (msgspec.MsgspecError, binascii.Error, ValueError, RecursionError) as error:
        raise MalformedMessage(f"blob request: {str(error)[:200]}") from error
    if envelope.payloadType != PAYLOAD_TYPE or request.schema != 1:
        raise MalformedMessage("blob request: of a type or schema that this program cannot read")
    return SignedBlobRequest(request, payload, signature)


def record(digest: str, payload: bytes) -> bytes:
    """One record of the answer; an empty payload: not given."""
    return bytes.fromhex(digest) + len(payload).to_bytes(4, "big") + payload


def read_head(head: bytes) -> tuple[str, int]:
    """The digest and the payload's length; raises `MalformedBlob` before anything is held."""
    if len(head) != HEAD_BYTES:
        raise MalformedBlob(f"the head of a record in {len(head)} bytes, not {HEAD_BYTES}")
    digest, length = head[:32].hex(), int.from_bytes(head[32:], "big")
    if length > MAX_PAYLOAD_BYTES:
        raise MalformedBlob(f"blob {digest[:16]}… announced with a payload of {length} bytes")
    return digest, length
