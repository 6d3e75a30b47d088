"""Wants: nobody is served twice at once, and nobody without end."""

from __future__ import annotations

import pytest

from fleet.wants import (
    BURST,
    LOG_EVERY_S,
    MAX_REMEMBERED,
    REFILL_PER_S,
    REPEAT_MS,
    DroppedWants,
    WantLimiter,
)


def names(count: int, start: int = 0) -> list[str]:
    return [f"{number:064x}" for number in range(start, start + count)]


def test_devices_that_ask_for_the_same_blob_at_once_get_it_once() -> None:
    limiter = WantLimiter()

    assert limiter.admit("a", names(3), 1_000) == names(3)
    assert limiter.admit("b", names(3), 1_001) == []
    assert limiter.admit("b", names(4), 1_002) == names(1, start=3)


def test_a_blob_may_go_out_again_a_little_later() -> None:
    limiter = WantLimiter()
    limiter.admit("a", names(1), 1_000)

    assert limiter.admit("a", names(1), 1_000 + REPEAT_MS) == names(1)


def test_a_clock_that_is_put_back_holds_no_blob_up() -> None:
    limiter = WantLimiter()
    limiter.admit("a", names(1), 3_600_000)

    assert limiter.admit("a", names(1), 1_000) == names(1)


def test_a_blob_named_twice_in_one_want_goes_out_once() -> None:
    assert WantLimiter().admit("a", names(1) * 5, 0) == names(1)


def test_a_device_that_asks_without_end_is_stopped_and_others_are_not() -> None:
    limiter = WantLimiter()
    limiter.admit("a", names(BURST), 0)

    assert limiter.admit("a", names(10, start=BURST), 0) == []
    assert limiter.admit("b", names(10, start=BURST), 0) == names(10, start=BURST)


def test_a_stopped_device_is_served_again_at_the_refill_rate() -> None:
    limiter = WantLimiter()
    limiter.admit("a", names(BURST), 0)

    served = limiter.admit("a", names(BURST, start=BURST), 1_000)
    assert len(served) == REFILL_PER_S


def test_a_clock_that_goes_back_gives_nothing_away() -> None:
    limiter = WantLimiter()
    limiter.admit("a", names(BURST), 100_000)

    assert limiter.admit("a", names(5, start=BURST), 0) == []


def test_what_is_remembered_is_bounded() -> None:
    limiter = WantLimiter()
    for number in range(2 * MAX_REMEMBERED // BURST + 2):
        limiter.admit(f"d{number}", names(BURST, start=number * BURST), 0)

    # The oldest was forgotten, so it may go out again although no time has passed.
    assert limiter.admit("late", names(1), 0) == names(1)


def test_a_storm_of_wants_is_one_line_and_a_number(caplog: pytest.LogCaptureFixture) -> None:
    now = [100.0]
    dropped = DroppedWants(lambda: now[0])
    for number in range(5_000):
        dropped.add(f"cam-{number}")
    assert [r.getMessage().split(":")[0] for r in caplog.records] == [
        "dropped 1 wants, the last of cam-0"
    ]

    now[0] += LOG_EVERY_S
    dropped.add("cam-9")

    assert caplog.records[-1].getMessage().startswith("dropped 5000 wants, the last of cam-9")
