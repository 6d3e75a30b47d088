"""The window of one fetch, told as stories over a clock that the test holds."""

from __future__ import annotations

import pytest

from agent.errors import Tampered, TransportFailed
from agent.link.fetch_plan import FetchPlan, Patience
from agent.link.rate import TokenBucket
from agent.link.window import FIRST_BLOBS as WINDOW
from agent.ports import BlobRef

PATIENCE = Patience(ask_s=4, cold_ask_s=1, want_again_s=15, want_limit_s=100, reconnect_s=9)
REFS = [BlobRef(f"{n:064x}", 100 + n) for n in range(30)]


def plan(count: int = 30) -> FetchPlan:
    return FetchPlan.of(REFS[:count], PATIENCE, 0.0)


def test_the_window_is_filled_once_half_of_it_is_free() -> None:
    p = plan()
    assert len(p.fill(0).subscribe) == WINDOW
    for ref in REFS[:3]:
        p.arrived(ref.digest, 0, 1)
        assert p.fill(1).subscribe == ()
    p.arrived(REFS[3].digest, 0, 1)
    assert list(p.fill(1).subscribe) == REFS[8:12]
    assert len(p.open) == WINDOW


def test_it_is_done_when_all_are_here() -> None:
    p = plan(2)
    p.fill(0)
    p.arrived(REFS[0].digest, 0, 1)
    assert not p.done
    p.arrived(REFS[1].digest, 0, 1)
    assert p.done


def test_what_does_not_come_is_asked_for_once_more_and_then_wanted() -> None:
    p = plan(1)
    p.fill(0)
    assert p.overdue(3.9).subscribe == ()
    assert list(p.overdue(4).subscribe) == REFS[:1]
    assert p.overdue(7.9).want == ()
    step = p.overdue(8)
    assert (list(step.want), step.subscribe) == (REFS[:1], ())


def test_a_slow_link_that_delivers_is_not_impatience() -> None:
    p = plan(WINDOW)
    p.fill(0)
    for number, ref in enumerate(REFS[: WINDOW - 1], start=1):
        p.arrived(ref.digest, 0, number * 3.9)
        assert p.overdue(number * 3.9).subscribe == ()
    assert list(p.overdue(7 * 3.9 + 4).subscribe) == [REFS[WINDOW - 1]]


def test_a_blob_that_comes_in_parts_is_not_asked_for_twice() -> None:
    p = plan(2)
    p.fill(0)
    for second in range(1, 100):
        p.coming(second)
        assert p.overdue(second + 0.9) == p.overdue(second + 3.9)
        assert p.overdue(second + 3.9).subscribe == ()
    assert list(p.overdue(103).subscribe) == REFS[:2]


def test_parts_without_end_are_no_arrival() -> None:
    p = plan(1)
    p.fill(0)
    for second in range(1, 124):
        p.coming(second)
        assert p.overdue(second).subscribe == ()
    p.coming(124)
    assert list(p.overdue(124).subscribe) == REFS[:1]


def test_a_broker_found_cold_is_waited_for_less() -> None:
    p = plan(12)
    p.fill(0)
    p.overdue(4)
    p.overdue(8)
    for ref in REFS[:8]:
        p.arrived(ref.digest, 0, 9)
    assert list(p.fill(9).subscribe) == REFS[8:12]
    assert list(p.overdue(10).subscribe) == REFS[8:12]
    assert list(p.overdue(11).want) == REFS[8:12]


def test_the_hub_is_asked_again_and_not_for_ever() -> None:
    p = plan(1)
    p.fill(0)
    p.overdue(4)
    wants = [t for t in range(8, 108) if p.overdue(t).want]
    assert wants == [8, 23, 38, 53, 68, 83, 98]
    with pytest.raises(TransportFailed, match="within 100 s"):
        p.overdue(108)


def test_absent_goes_straight_to_the_hub() -> None:
    p = plan(1)
    p.fill(0)
    assert list(p.absent(REFS[0].digest, 0.1).want) == REFS[:1]


def test_wrong_bytes_are_asked_for_once_more() -> None:
    p = plan(1)
    p.fill(0)
    assert list(p.broken(REFS[0].digest, "wrong digest", 1).subscribe) == REFS[:1]
    with pytest.raises(Tampered, match="wrong length"):
        p.broken(REFS[0].digest, "wrong length", 2)


def test_a_reconnect_asks_for_the_open_ones_and_forgets_no_wrong_bytes() -> None:
    p = plan(2)
    p.fill(0)
    p.broken(REFS[0].digest, "wrong digest", 1)
    p.arrived(REFS[1].digest, 0, 1)
    assert list(p.reconnected(500).subscribe) == REFS[:1]
    assert p.overdue(503).subscribe == ()
    with pytest.raises(Tampered):
        p.broken(REFS[0].digest, "wrong again", 504)


def test_a_rate_asks_for_no_more_than_it_can_pay_for() -> None:
    refs = [BlobRef(f"{n:064x}", 20_000) for n in range(30)]
    p = FetchPlan.of(refs, PATIENCE, 0.0, TokenBucket(rate=50_000.0))
    assert len(p.fill(0.0).subscribe) == 3
    assert p.fill(0.1).subscribe == ()
    p.arrived(refs[0].digest, 5_000, 0.2)
    assert p.fill(0.2).subscribe == (refs[3],), "what compression saved pays for another"
