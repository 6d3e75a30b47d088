"""Connections: what a client may take of the server before it has asked for anything."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest

from agent.serving import listeners
from agent.serving.http import Receive, Scope, Send, answer_with, json_reply
from agent.serving.listeners import bind_tcp, listener

REQUEST = b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n"


async def hello(_scope: Scope, _receive: Receive, send: Send) -> None:
    async def reply() -> object:
        return json_reply("hello")

    await answer_with(reply(), send)  # type: ignore[arg-type]  # a Reply, as json_reply makes it


@contextlib.asynccontextmanager
async def listening() -> AsyncIterator[int]:
    server, bound = listener(hello, drain_s=1), bind_tcp("127.0.0.1", 0, None)
    serving = asyncio.ensure_future(server.serve(sockets=[bound]))
    try:
        while not server.started:
            await asyncio.sleep(0.005)
        yield bound.getsockname()[1]
    finally:
        server.leave()
        await serving


async def closed_by_the_server(port: int, *pieces: bytes) -> bytes:
    """Send the pieces, then wait for the end; what was answered before it."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
        answered = b""
        with contextlib.suppress(ConnectionResetError):
            while block := await asyncio.wait_for(reader.read(4096), 10):
                answered += block
        return answered
    finally:
        writer.close()


@pytest.mark.parametrize("sent", [b"", b"GET / HT", b"GET / HTTP/1.1\r\nhost: ", b"\r\n\r\n"])
def test_a_client_that_does_not_ask_is_not_waited_for(
    sent: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listeners, "HEADERS_S", 0.05)

    async def wait() -> bytes:
        async with listening() as port:
            return await closed_by_the_server(port, sent)

    assert asyncio.run(wait()) == b""


def test_nor_is_one_that_has_asked_before(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listeners, "HEADERS_S", 0.3)

    async def wait() -> bytes:
        async with listening() as port:
            return await closed_by_the_server(port, REQUEST, REQUEST[:20])

    assert asyncio.run(wait()).count(b"hello") == 1


def test_connections_have_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listeners, "MAX_CONNECTIONS", 4)

    async def crowd() -> bytes:
        async with listening() as port:
            taken = [await asyncio.open_connection("127.0.0.1", port) for _ in range(8)]
            try:
                return await closed_by_the_server(port, REQUEST)
            finally:
                for _, writer in taken:
                    writer.close()

    assert asyncio.run(crowd()) == b""
