"""A response is here in time or not at all, however its bytes are doled out."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import pytest

from agent.timed_response import Allowance, TimedResponse, TooSlow


@contextmanager
def sending(first: bytes, again: bytes = b"", every_s: float = 0.01) -> Iterator[socket.socket]:
    """A peer that says this, and then that for ever."""
    near, far = socket.socketpair()
    stopping = threading.Event()

    def send() -> None:
        with suppress(OSError):
            far.sendall(first)
            while not stopping.wait(every_s):
                far.sendall(again)

    thread = threading.Thread(target=send, daemon=True)
    thread.start()
    try:
        yield near
    finally:
        stopping.set()
        near.close()
        thread.join(5)
        far.close()


def response(near: socket.socket, seconds: float, count: int = 65_536) -> TimedResponse:
    allowance = Allowance(idle_s=5.0)
    allowance.allow(seconds, count)
    return TimedResponse(allowance, near, method="GET")


def test_what_comes_in_time_is_read_as_ever() -> None:
    whole = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 206 X\r\nContent-Length: 5\r\n\r\nwhole"
    with sending(whole) as near:
        found = response(near, 5.0)
        found.begin()
        assert (found.status, found.read()) == (206, b"whole")
        found.close()


@pytest.mark.parametrize(
    ("first", "again"),
    [
        (b"HTTP/1.1 206 X\r\nX: ", b"y"),
        (b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
        (b"HTTP/1.1 206 X\r\n", b""),
    ],
)
def test_a_head_that_is_doled_out_ends_with_the_time(first: bytes, again: bytes) -> None:
    with sending(first, again) as near, pytest.raises(TooSlow):
        response(near, 0.2).begin()


def test_interim_answers_without_end_are_too_much() -> None:
    flood = b"HTTP/1.1 100 Continue\r\n\r\n" * 1_000
    with sending(flood, flood, 0.0) as near, pytest.raises(OSError, match="more comes"):
        response(near, 60.0).begin()


def test_a_peer_that_says_nothing_is_lost_before_the_time_is_over() -> None:
    allowance = Allowance(idle_s=0.1)
    allowance.allow(60.0, 100)
    with sending(b"", b"") as near:
        with pytest.raises(TimeoutError) as raised:
            TimedResponse(allowance, near, method="GET").begin()
        assert not isinstance(raised.value, TooSlow)


def test_a_new_allowance_is_for_what_comes_next() -> None:
    with sending(b"HTTP/1.1 206 X\r\nContent-Length: 99999\r\n\r\n", b"x" * 100) as near:
        allowance = Allowance(idle_s=5.0)
        allowance.allow(5.0, 1_000)
        found = TimedResponse(allowance, near, method="GET")
        found.begin()
        allowance.allow(0.2, 99_999)
        with pytest.raises(TooSlow):
            found.read(99_999)
        assert time.monotonic() >= allowance.until
