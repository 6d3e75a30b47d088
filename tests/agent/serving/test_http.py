"""Bodies within their limits, and replies that never show a traceback."""

from __future__ import annotations

import asyncio
import gzip
import zlib
from collections.abc import Coroutine
from typing import Any, TypeVar

import msgspec
import pytest

from agent.serving import errors
from agent.serving.http import BodyReader, Message, Reply, Scope, answer_with

T = TypeVar("T")
LIMIT = 1_000


def run(work: Coroutine[Any, Any, T]) -> T:
    return asyncio.run(work)


def scope(**headers: str) -> Scope:
    pairs = [(k.replace("_", "-").encode(), v.encode()) for k, v in headers.items()]
    return {"type": "http", "headers": pairs}


class Client:
    """The sending side of a connection: messages, then silence."""

    def __init__(self, *messages: Message) -> None:
        self._messages = list(messages)

    async def receive(self) -> Message:
        if not self._messages:
            await asyncio.sleep(60)
        return self._messages.pop(0)


def parts(*bodies: bytes) -> Client:
    last = len(bodies) - 1
    return Client(
        *({"type": "http.request", "body": b, "more_body": i < last} for i, b in enumerate(bodies))
    )


async def read(reader: BodyReader, given: Scope, client: Client) -> bytes:
    async with reader.body(given, client.receive) as body:
        return body


def reader(timeout_s: float = 5.0) -> BodyReader:
    return BodyReader(LIMIT, 2 * LIMIT, timeout_s)


def test_a_body_in_pieces_is_put_together() -> None:
    assert run(read(reader(), scope(content_length="4"), parts(b"ab", b"", b"cd"))) == b"abcd"


def test_a_body_that_says_it_is_too_long_is_not_read() -> None:
    with pytest.raises(errors.BodyTooLong):
        run(read(reader(), scope(content_length="1001"), Client()))


def test_a_body_that_grows_too_long_is_cut_off() -> None:
    chunked = scope(transfer_encoding="chunked")
    with pytest.raises(errors.BodyTooLong):
        run(read(reader(), chunked, parts(b"a" * 600, b"a" * 600, b"a" * 10**6)))


def test_all_bodies_together_have_a_limit_too() -> None:
    async def three_at_once() -> bytes:
        bodies, given = reader(), scope(content_length="1000")
        full = parts(b"a" * LIMIT), parts(b"a" * LIMIT)
        async with bodies.body(given, full[0].receive), bodies.body(given, full[1].receive):
            with pytest.raises(errors.Busy):
                await read(bodies, given, parts(b"a"))
        return await read(bodies, given, parts(b"again"))

    assert run(three_at_once()) == b"again"


def test_a_client_that_announces_much_and_sends_nothing_takes_nothing() -> None:
    async def beside_the_silent() -> bytes:
        bodies = reader()
        announced = scope(content_length="1000")
        silent = [asyncio.ensure_future(read(bodies, announced, Client())) for _ in range(9)]
        await asyncio.sleep(0)
        body = await read(bodies, scope(content_length="1000"), parts(b"a" * LIMIT))
        for one in silent:
            one.cancel()
        return body

    assert len(run(beside_the_silent())) == LIMIT


def test_what_bodies_unpack_to_counts_as_held() -> None:
    async def bombs() -> None:
        bodies, given = reader(), scope(content_encoding="gzip")
        bomb = gzip.compress(b"\0" * LIMIT)
        async with bodies.body(given, parts(bomb).receive):
            with pytest.raises(errors.Busy):
                await read(bodies, given, parts(bomb))
        assert len(await read(bodies, given, parts(bomb))) == LIMIT

    run(bombs())


def test_a_body_that_never_ends_times_out() -> None:
    stalled = Client({"type": "http.request", "body": b"a", "more_body": True})
    with pytest.raises(errors.TooSlow):
        run(read(reader(0.02), scope(content_length="10"), stalled))


def test_a_client_that_leaves_is_noticed() -> None:
    with pytest.raises(errors.MalformedRequest, match="left"):
        run(read(reader(), scope(content_length="10"), Client({"type": "http.disconnect"})))


@pytest.mark.parametrize("length", ["-1", "x", "1" * 19, ""])
def test_a_content_length_that_is_none_is_refused(length: str) -> None:
    with pytest.raises(errors.MalformedRequest):
        run(read(reader(), scope(content_length=length), parts(b"")))


@pytest.mark.parametrize(
    ("encoding", "pack"), [("gzip", gzip.compress), ("deflate", zlib.compress)]
)
def test_compressed_bodies_are_unpacked(encoding: str, pack: Any) -> None:
    assert run(read(reader(), scope(content_encoding=encoding), parts(pack(b"abc")))) == b"abc"


def test_a_compressed_bomb_stops_at_the_limit() -> None:
    bomb = gzip.compress(b"\0" * 100_000)
    assert len(bomb) < LIMIT
    with pytest.raises(errors.BodyTooLong):
        run(read(reader(), scope(content_encoding="gzip"), parts(bomb)))


@pytest.mark.parametrize("data", [b"", b"no gzip", gzip.compress(b"abc")[:-4]])
def test_a_broken_compressed_body_is_malformed(data: bytes) -> None:
    with pytest.raises(errors.MalformedRequest):
        run(read(reader(), scope(content_encoding="gzip"), parts(data)))


def test_an_unknown_encoding_is_refused() -> None:
    with pytest.raises(errors.UnknownEncoding):
        run(read(reader(), scope(content_encoding="br"), parts(b"abc")))


async def replied(error: Exception) -> tuple[int, dict[bytes, bytes], Any]:
    async def fail() -> Reply:
        raise error

    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    await answer_with(fail(), send)
    start, body = sent
    return start["status"], dict(start["headers"]), msgspec.json.decode(body["body"])


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (errors.MalformedRequest("bad"), 400),
        (errors.Unauthorised("bad"), 401),
        (errors.ForeignOrigin("bad"), 403),
        (errors.UnknownModel("bad"), 404),
        (errors.WrongMethod("bad"), 405),
        (errors.TooSlow("bad"), 408),
        (errors.BodyTooLong("bad"), 413),
        (errors.UnknownEncoding("bad"), 415),
        (errors.InferenceBroke("bad"), 500),
        (errors.Busy("bad"), 503),
    ],
)
def test_each_refusal_has_its_status_and_says_why(error: Exception, status: int) -> None:
    found, headers, body = run(replied(error))
    assert (found, body) == (status, {"error": "bad"})
    assert (b"retry-after" in headers) == (status == 503)
    assert (headers.get(b"connection") == b"close") == (status in (408, 413))


def test_an_unforeseen_error_shows_no_traceback() -> None:
    status, _, body = run(replied(RuntimeError("secret path /x")))
    assert status == 500
    assert "secret" not in body["error"]
