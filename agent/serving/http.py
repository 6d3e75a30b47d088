"""HTTP as this server speaks it: bounded bodies in, small whole replies out. No routing.

Speaks ASGI (uvicorn) on one side; raises `RequestRefused` for what a client did wrong.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, MutableMapping
from dataclasses import dataclass, field
from typing import Any

import msgspec

from agent.serving.errors import (
    BodyTooLong,
    Busy,
    MalformedRequest,
    RequestRefused,
    TooSlow,
    UnknownEncoding,
)

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

_log = logging.getLogger(__name__)
_JSON = (b"content-type", b"application/json")
_GZIP = 16 + zlib.MAX_WBITS


@dataclass(frozen=True)
class Reply:
    """One whole answer."""

    status: int
    body: bytes
    headers: list[tuple[bytes, bytes]] = field(default_factory=lambda: [_JSON])

    async def send(self, send: Send) -> None:
        """Write it, with its length."""
        length = (b"content-length", b"%d" % len(self.body))
        start = {
            "type": "http.response.start",
            "status": self.status,
            "headers": [*self.headers, length],
        }
        await send(start)
        await send({"type": "http.response.body", "body": self.body})


def json_reply(value: object, status: int = 200) -> Reply:
    """`value` as JSON."""
    return Reply(status, msgspec.json.encode(value))


def refusal(error: RequestRefused) -> Reply:
    """`{"error": ...}` with the status of the error's class."""
    reply = json_reply({"error": str(error)}, error.status)
    if isinstance(error, Busy):
        reply.headers.append((b"retry-after", b"1"))
    if isinstance(error, (BodyTooLong, TooSlow)):  # the rest of the body is not worth reading
        reply.headers.append((b"connection", b"close"))
    return reply


async def answer_with(work: Awaitable[Reply], send: Send) -> None:
    """Send what `work` gives, whatever it raises: a client never sees a traceback."""
    try:
        reply = await work
    except RequestRefused as error:
        reply = refusal(error)
    except Exception:  # noqa: BLE001 - a request's boundary: logged, and the next one is served
        _log.exception("a request failed in an unforeseen way")
        reply = json_reply({"error": "internal error; the device's log has the details"}, 500)
    await reply.send(send)


class BodyReader:
    """Reads bodies within one limit for each and one for all that are held at once.

    What counts is what has come, and what it unpacks to: a client that announces much and sends
    nothing takes nothing from the others.
    """

    def __init__(self, max_body: int, max_held: int, timeout_s: float) -> None:
        self._max_body = max_body
        self._max_held = max_held
        self._timeout_s = timeout_s
        self._held = 0

    @contextlib.asynccontextmanager
    async def body(self, scope: Scope, receive: Receive) -> AsyncIterator[bytes]:
        """The whole body, decompressed, counted as held until the request is answered.

        Raises `RequestRefused` subclasses.
        """
        self._check_length(scope["headers"])
        encoding = header(scope["headers"], b"content-encoding") or b"identity"
        held = _Held(self)
        try:
            packed = await self._in_time(receive, held)
            body = _unpack(packed, encoding.lower(), self._max_body)
            if body is not packed:
                held.add(len(body))
            del packed
            yield body
        finally:
            self._held -= held.bytes

    async def _in_time(self, receive: Receive, held: _Held) -> bytes:
        try:
            return await asyncio.wait_for(self._collect(receive, held), self._timeout_s)
        except asyncio.TimeoutError as error:
            raise TooSlow(f"the body did not come within {self._timeout_s:.0f} s") from error

    def _check_length(self, headers: Iterable[tuple[bytes, bytes]]) -> None:
        length = header(headers, b"content-length")
        if length is None:
            return
        if not length.isdigit() or len(length) > 18:
            raise MalformedRequest("Content-Length is not a length")
        if int(length) > self._max_body:
            raise self._too_long()

    def hold(self, size: int) -> None:
        """Count these bytes as held; raises `Busy` when all that is held would be too much."""
        if self._held + size > self._max_held:
            raise Busy("too many requests at once; try again")
        self._held += size

    async def _collect(self, receive: Receive, held: _Held) -> bytes:
        parts: list[bytes] = []
        total = 0
        while True:
            message = await receive()
            if message["type"] != "http.request":
                raise MalformedRequest("the client left before its request was whole")
            parts.append(message.get("body", b""))
            total += len(parts[-1])
            if total > self._max_body:
                raise self._too_long()
            held.add(len(parts[-1]))
            if not message.get("more_body", False):
                return parts[0] if len(parts) == 1 else b"".join(parts)

    def _too_long(self) -> BodyTooLong:
        return BodyTooLong(f"the body is longer than {self._max_body} bytes")


@dataclass
class _Held:
    """What one request holds."""

    reader: BodyReader
    bytes: int = 0

    def add(self, size: int) -> None:
        self.reader.hold(size)
        self.bytes += size


def header(headers: Iterable[tuple[bytes, bytes]], name: bytes) -> bytes | None:
    """The first header of that lower-case name."""
    return next((value for key, value in headers if key == name), None)


def _unpack(body: bytes, encoding: bytes, limit: int) -> bytes:
    if encoding == b"identity":
        return body
    if encoding not in (b"gzip", b"deflate"):
        raise UnknownEncoding(f"Content-Encoding {encoding[:20]!r} is not gzip or deflate")
    unpacker = zlib.decompressobj(_GZIP if encoding == b"gzip" else zlib.MAX_WBITS)
    try:
        data = unpacker.decompress(body, limit)
    except zlib.error as error:
        raise MalformedRequest(f"the body is not {encoding.decode()}: {error}") from error
    if unpacker.unconsumed_tail:
        raise BodyTooLong(f"the body unpacks to more than {limit} bytes")
    if not unpacker.eof:
        raise MalformedRequest(f"the {encoding.decode()} body is cut short")
    return data
