"""The other answer to a request for blobs: where they stand inside one object of an object store.

The hub packs a large release into one object, and gives out an address that is good for minutes.
The device reads pieces of it (HTTP ranges) and checks each blob as those of any other source. A
device that can do this names `PLACES_TYPE` in `Accept`; a hub that cannot answers as it always did.
Reads no sockets.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated
from urllib.parse import urlsplit

import msgspec
from msgspec import Meta

from contract.blob_request import MAX_DIGESTS, MAX_PAYLOAD_BYTES
from contract.errors import MalformedMessage, MessageTooLong

PLACES_TYPE = "application/vnd.outrider.blob-places+json"
MAX_PLACES_BYTES = 65_536
MAX_ADDRESS_CHARS = 4_096
MAX_OBJECT_BYTES = 5 << 30
"""What S3 takes in one request."""

Offset = Annotated[int, Meta(ge=0, le=MAX_OBJECT_BYTES)]
Length = Annotated[int, Meta(ge=0, le=MAX_PAYLOAD_BYTES)]
Address = Annotated[str, Meta(pattern=r"^https?://[!-~]+\Z", max_length=MAX_ADDRESS_CHARS)]


class BlobPlaces(msgspec.Struct, frozen=True, kw_only=True):
    """`places` holds offset and length of the framed payload of each digest, in the order asked;
    length 0: not given. Who has `address` can read the object for a few minutes."""

    schema: int = 1
    address: Address
    places: Annotated[list[tuple[Offset, Length]], Meta(min_length=1, max_length=MAX_DIGESTS)]


@dataclass(frozen=True)
class Location:
    """An address, taken apart."""

    secure: bool
    host: str
    port: int
    path: str
    """With the query, as a request line wants it."""


def read_places(data: bytes, asked: int) -> BlobPlaces:
    """Parse the answer to a request for so many digests; raises `MessageTooLong` or
    `MalformedMessage`."""
    if len(data) > MAX_PLACES_BYTES:
        raise MessageTooLong(f"places of {len(data)} bytes; at most {MAX_PLACES_BYTES}")
    try:
        found = msgspec.json.decode(data, type=BlobPlaces)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise MalformedMessage(f"places: {str(error)[:200]}") from error
    if found.schema != 1:
        raise MalformedMessage(f"places: schema {found.schema}; this program reads 1")
    if len(found.places) != asked:
        raise MalformedMessage(f"places of {len(found.places)} blobs; {asked} were asked for")
    return found


def read_address(address: str) -> Location:
    """Parse an address from anywhere; raises `MalformedMessage`, which does not repeat it: whoever
    reads a log could use it."""
    try:
        checked = msgspec.convert(address, Address)
        url = urlsplit(checked)
        port = url.port
    except (msgspec.ValidationError, ValueError) as error:
        raise MalformedMessage("an object's address that is no address") from error
    if not url.hostname or url.username is not None:
        raise MalformedMessage("an object's address without a host, or with a name in it")
    secure = url.scheme == "https"
    path = (url.path or "/") + (f"?{url.query}" if url.query else "")
    return Location(secure, url.hostname, port or (443 if secure else 80), path)
