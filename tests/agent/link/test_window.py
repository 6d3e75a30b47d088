"""The window of a fetch, over links that are simulated: fast, slow, far."""

from __future__ import annotations

from collections import deque

from hypothesis import given
from hypothesis import strategies as st

from agent.link.window import (
    FIRST_BLOBS,
    FIRST_BYTES,
    LEAST_BLOBS,
    MOST_BLOBS,
    MOST_BYTES,
    Window,
)
from contract.manifest import MAX_CHUNK_BYTES


def carried(window: Window, rate: float, delay_s: float, size: int, count: int) -> list[int]:
    """How many blobs were under way at each arrival, over a link of `rate` bytes a second."""
    now = free_at = 0.0
    asked: deque[tuple[float, float]] = deque()
    held = []
    for _ in range(count):
        while (window.opens(len(asked), len(asked) * size) or (asked and asked[-1][0] == now)) and (
            window.admits(len(asked) + 1, (len(asked) + 1) * size)
        ):
            free_at = max(free_at, now + delay_s / 2) + size / rate
            asked.append((now, free_at + delay_s / 2))
        held.append(len(asked))
        since, now = asked.popleft()
        window.arrived(now - since)
    return held


def test_the_first_window_is_small_in_blobs_and_in_bytes() -> None:
    window = Window()
    assert window.admits(FIRST_BLOBS, 800)
    assert not window.admits(FIRST_BLOBS + 1, 900)
    assert window.admits(3, FIRST_BYTES)
    assert not window.admits(3, FIRST_BYTES + 1)


def test_two_blobs_may_be_asked_for_whatever_their_size() -> None:
    assert Window().admits(2, 2 * MAX_CHUNK_BYTES)


def test_more_is_asked_for_once_half_is_free() -> None:
    window = Window()
    assert not window.opens(FIRST_BLOBS // 2 + 1, 500)
    assert window.opens(FIRST_BLOBS // 2, 400)
    assert not window.opens(2, FIRST_BYTES // 2 + 1)
    assert window.opens(1, MAX_CHUNK_BYTES)


def test_a_fast_link_opens_it_as_far_as_memory_allows() -> None:
    window = Window()
    carried(window, rate=100e6, delay_s=0.001, size=20_000, count=400)
    assert (window.blobs, window.room) == (MOST_BLOBS, MOST_BYTES)


def test_a_slow_link_keeps_no_more_at_the_broker_than_two_blobs() -> None:
    held = carried(Window(), rate=125e3, delay_s=0.1, size=70_000, count=100)
    assert max(held) == LEAST_BLOBS


def test_a_slow_link_of_small_blobs_closes_it() -> None:
    window = Window()
    held = carried(window, rate=30e3, delay_s=0.1, size=19_000, count=200)
    assert max(held[100:]) <= 3


def test_a_far_but_fast_link_is_kept_busy() -> None:
    window = Window()
    carried(window, rate=10e6, delay_s=0.6, size=70_000, count=400)
    assert window.room == MOST_BYTES


@given(st.lists(st.floats(0.0, 1e4), max_size=400))
def test_whatever_the_waits_the_bounds_hold(waits: list[float]) -> None:
    window = Window()
    for waited in waits:
        window.arrived(waited)
        assert LEAST_BLOBS <= window.blobs <= MOST_BLOBS
        assert MAX_CHUNK_BYTES <= window.room <= MOST_BYTES
