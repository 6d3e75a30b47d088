"""Blobs for devices, without a token: each proves itself in its request, and gets a stream, or an
address in the bucket when it says that it can do with one.

One blob at a time is in memory for each stream. Streams are bounded in number and in time, so that
devices on slow links cannot take the API from operators.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from threading import BoundedSemaphore

import msgspec
from fastapi import APIRouter, Request, Response
from fastapi.responses import StreamingResponse
from starlette.concurrency import run_in_threadpool
from starlette.types import Receive, Scope, Send

from contract.blob_places import PLACES_TYPE
from contract.blob_request import (
    MAX_REQUEST_BYTES,
    MAX_STREAMED,
    STREAM_TYPE,
    SignedBlobRequest,
    read_blob_request,
    record,
)
from contract.renewal import TIME_HEADER
from fleet.api.access import Hub
from fleet.api.errors import Refused
from fleet.api.limits import RateLimit
from fleet.blob_requests import granted, placed
from fleet.blobs import BlobStore
from fleet.errors import BlobMissing, ClockDiffers
from fleet.ports import HubServices

_LOG = logging.getLogger(__name__)
router = APIRouter(tags=["blobs"])
REQUESTS_A_MINUTE = (240, 6_000)
"""Of one device, and of all; a request carries up to 15 MiB."""
MAX_STREAMS = 16
STREAM_S = 300.0
"""What did not come through by then is asked for again."""


@router.post("/blobs")
async def give_blobs(request: Request, hub: Hub) -> Response:
    """Blobs of a release that is assigned to the device which signed the request."""
    data = await request.body()
    if len(data) > MAX_REQUEST_BYTES:
        raise Refused(413, "too-large", f"at most {MAX_REQUEST_BYTES} bytes")
    signed = read_blob_request(data)
    allowed = await run_in_threadpool(_granted, hub, signed)
    limit, streams = request.app.state.blob_requests, request.app.state.blob_streams
    _count(limit, signed.request.device)
    if PLACES_TYPE in request.headers.get("accept", ""):
        found = await run_in_threadpool(placed, hub.shelf, signed, allowed)
        if found is not None:
            return Response(msgspec.json.encode(found), media_type=PLACES_TYPE)
    if not streams.acquire(blocking=False):
        raise Refused(503, "busy", "many devices fetch blobs: wait", 5)
    allowed.intersection_update(signed.request.digests[:MAX_STREAMED])
    return BlobStream(_records(hub.blobs, signed.request.digests, allowed), streams)


class BlobStream(StreamingResponse):
    """Gives its place back when it is over, whatever ended it."""

    def __init__(self, records: Iterator[bytes], places: BoundedSemaphore) -> None:
        super().__init__(records, media_type=STREAM_TYPE)
        self._places = places

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await asyncio.wait_for(super().__call__(scope, receive, send), STREAM_S)
        except asyncio.TimeoutError:
            _LOG.warning("a stream of blobs took too long and was cut off")
        finally:
            self._places.release()


def _granted(hub: HubServices, signed: SignedBlobRequest) -> set[str]:
    try:
        return granted(hub.storage, signed, hub.clock())
    except ClockDiffers as error:
        headers = {TIME_HEADER: str(error.now_ms)}
        raise Refused(409, "clock-differs", str(error), headers=headers) from error


def _count(limit: RateLimit, device: str) -> None:
    """Only after its signature was checked: nobody can use up another's share."""
    if not limit.allows(device):
        raise Refused(429, "too-often", f"too many requests of {device} for blobs: wait", 60)


def _records(blobs: BlobStore, digests: list[str], allowed: set[str]) -> Iterator[bytes]:
    """A record for each digest, in the order asked; each blob once."""
    left = set(allowed)
    for digest in digests:
        payload = b""
        if digest in left:
            left.discard(digest)
            try:
                payload = blobs.get(digest)
            except BlobMissing as error:
                _LOG.error("%s: publish its bundle again", error)
        yield record(digest, payload)
