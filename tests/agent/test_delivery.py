"""What is sent again, and when: told as small stories over a clock that the test holds."""

from __future__ import annotations

from agent.delivery import WINDOW, Delivery
from agent.link.backoff import Backoff


def delivery() -> Delivery:
    return Delivery(Backoff(first_s=10.0, most_s=40.0))


def send(d: Delivery, seqs: range | list[int], now: float) -> None:
    for seq in seqs:
        d.was_sent(seq, now, chance=0.0)


def test_the_window_is_bounded() -> None:
    d = delivery()
    assert d.room() == WINDOW
    send(d, range(WINDOW), 0.0)
    assert d.room() == 0


def test_an_unacknowledged_row_goes_again_after_waits_that_double() -> None:
    d, now, waits = delivery(), 0.0, []
    send(d, [1], now)
    for _ in range(4):
        before = now
        while d.overdue(now) == []:
            now += 1.0
        waits.append(now - before)
        send(d, [1], now)
    assert waits == [10.0, 20.0, 40.0, 40.0]


def test_an_acknowledged_row_is_not_sent_again() -> None:
    d = delivery()
    send(d, [1, 2], 0.0)
    d.acknowledged([1, 99], 1.0)
    assert d.overdue(1000.0) == [2]
    assert d.under_way() == {2}


def test_everything_goes_again_after_a_reconnect() -> None:
    d = delivery()
    send(d, range(5), 0.0)
    d.reconnected()
    assert d.under_way() == frozenset()
    assert d.room() == WINDOW


def test_the_first_ack_after_a_silence_sends_the_rest_at_once() -> None:
    d = delivery()
    send(d, [1, 2, 3], 0.0)
    send(d, [1, 2, 3], 10.0)
    assert d.overdue(11.0) == []
    d.acknowledged([1], 11.0)
    assert d.overdue(11.0) == [2, 3]


def test_a_row_that_is_never_acknowledged_holds_up_nobody() -> None:
    d = delivery()
    poison = range(WINDOW)
    now = 0.0
    for _ in range(5):
        send(d, poison, now)
        now += 100.0
    assert d.room() == WINDOW
    assert d.overdue(now) == list(poison), "it is tried on the side all the same"


def test_the_next_try_is_spread_over_half_of_its_wait() -> None:
    early, late = delivery(), delivery()
    early.was_sent(1, 0.0, chance=0.999)
    late.was_sent(1, 0.0, chance=0.0)
    assert 5.0 <= early.sent[1].due < 5.1
    assert late.sent[1].due == 10.0


def test_a_dropped_row_frees_its_place() -> None:
    d = delivery()
    send(d, range(WINDOW), 0.0)
    d.forget([3])
    assert d.room() == 1
