"""The sockets of the server and the uvicorn servers that answer on them.

One process, one event loop, several listeners, each with an app of its own. Owns the lock that
keeps two servers from one state folder. uvicorn would let a client send headers without end; the
protocol class here does not.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import fcntl
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from agent.serving.http import App
from agent.serving.protocol import SERVER_LOCK
from agent.serving.settings import BadServingSettings

MAX_HEADER_BYTES = 64 * 1024
MAX_CONNECTIONS = 256
"""Beyond it requests are answered 503; beyond twice as many, connections are not taken at all."""
HEADERS_S = 30.0
"""How long a client may take from connecting, or from a request's first byte, to its headers'
end."""
_KEEP_ALIVE_S = 75
"""Longer than clients keep idle connections, so that none is closed as a request leaves."""


class BoundedHttp(HttpToolsProtocol):
    """Closes a connection whose headers do not end, or do not come."""

    _header_bytes: int | None = None
    _deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        """File descriptors are finite, and models are read through them."""
        super().connection_made(transport)
        if len(self.connections) > 2 * MAX_CONNECTIONS:
            transport.abort()
        else:
            self._expect_headers()

    def connection_lost(self, exc: Exception | None) -> None:
        """Nothing is expected any more."""
        self._expect_nothing()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Count what comes until the headers are complete."""
        cycle: RequestResponseCycle | None = self.cycle  # None before the first request
        if cycle is None or cycle.response_complete:
            self._expect_headers()  # whatever this is, it ended uvicorn's own wait
        super().data_received(data)
        if self._header_bytes is not None:
            self._header_bytes += len(data)
            if self._header_bytes > MAX_HEADER_BYTES and not self.transport.is_closing():
                self.send_400_response("Headers too long.")

    def on_message_begin(self) -> None:
        """A request's first byte."""
        super().on_message_begin()
        self._header_bytes = 0
        self._expect_headers()

    def on_headers_complete(self) -> None:
        """From here on the body's limit holds."""
        self._header_bytes = None
        self._expect_nothing()
        super().on_headers_complete()

    def _expect_headers(self) -> None:
        if self._deadline is None:
            self._deadline = self.loop.call_later(HEADERS_S, self.transport.abort)

    def _expect_nothing(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None


class QuietServer(uvicorn.Server):
    """A uvicorn server among several: signals are not its own, and idle it does nothing at all."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self._left = asyncio.Event()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave them alone."""
        yield

    async def main_loop(self) -> None:
        """Wait for `leave`; uvicorn's own wakes ten times a second, which costs a board power."""
        await self.on_tick(0)
        await self._left.wait()

    def leave(self) -> None:
        """Stop listening, and let running requests finish."""
        self.should_exit = True
        self._left.set()


def listener(app: App, drain_s: int) -> QuietServer:
    """A uvicorn server for one app; give its socket to `serve`."""
    config = uvicorn.Config(
        app,
        http=BoundedHttp,
        ws="none",
        lifespan="off",
        interface="asgi3",
        log_config=None,
        access_log=False,
        server_header=False,
        date_header=False,
        proxy_headers=False,
        limit_concurrency=MAX_CONNECTIONS,
        timeout_keep_alive=_KEEP_ALIVE_S,
        timeout_graceful_shutdown=drain_s,
    )
    return QuietServer(config)


def bind_tcp(host: str, port: int, last_port: int | None) -> socket.socket:
    """A listening TCP socket; port 0 takes `last_port` when it is free, else any."""
    if port == 0 and last_port:
        with contextlib.suppress(BadServingSettings):
            return bind_tcp(host, last_port, None)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # The protocol is named: for 0, asyncio leaves Nagle's algorithm on, and uvicorn's answer in two
    # writes then waits 40 ms for the client's acknowledgement.
    bound = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind((host.strip("[]"), port))
        bound.listen(1024)
    except OSError as error:
        bound.close()
        busy = error.errno == errno.EADDRINUSE
        hint = "; another program listens there: choose another --port" if busy else ""
        raise BadServingSettings(f"cannot listen on {host}:{port}: {error}{hint}") from error
    bound.setblocking(False)
    return bound


@contextlib.contextmanager
def only_server(run_dir: Path) -> Iterator[None]:
    """Hold the state folder's lock; raises `BadServingSettings` when a server already runs."""
    run_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    run_dir.chmod(0o700)
    lock = os.open(run_dir / SERVER_LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise BadServingSettings(
                f"an inference server already runs in {run_dir.parent}; stop it first"
            ) from error
        with contextlib.suppress(OSError):  # a full disk must not stop inference
            os.ftruncate(lock, 0)
            os.pwrite(lock, b"%d\n" % os.getpid(), 0)
        yield
    finally:
        os.close(lock)
