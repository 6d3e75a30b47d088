"""How a device asks the hub for blobs over HTTPS, and the stream of records that answers it.

The request is a signed one (contract.signed_request), made with the key of the device; the time
inside bounds how long a copy is of use. The answer holds a record for each digest, in the
order asked: 32 bytes of digest, the payload's length as u32 big-endian, the framed payload
(model.chunks). Length 0 says that the hub does not give this one. Reads no sockets.
"""

from __future__ import annotations

from typing import Annotated, TypeAlias

import msgspec
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from msgspec import Meta

from contract.errors import MalformedBlob
from contract.ids import Digest, Id, TargetName, TimeMs
from contract.manifest import MAX_CHUNK_BYTES
from contract.signed_request import Kind, SignedRequest, read, sign

MAX_REQUEST_BYTES = 131_072
MAX_DIGESTS = 1_024
MAX_STREAMED = 128
"""Of one request that is answered by a stream. More are asked for only where places come
(contract.blob_places)."""
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


SignedBlobRequest: TypeAlias = SignedRequest[BlobRequest]
_KIND = Kind("blob request", PAYLOAD_TYPE, BlobRequest, MAX_REQUEST_BYTES)


def sign_blob_request(request: BlobRequest, key: EllipticCurvePrivateKey) -> bytes:
    """The body of `POST /api/v1/blobs`."""
    return sign(_KIND, request, key)


def read_blob_request(data: bytes) -> SignedBlobRequest:
    """Parse a request's body; raises `MessageTooLong` or `MalformedMessage`."""
    return read(_KIND, data)


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
