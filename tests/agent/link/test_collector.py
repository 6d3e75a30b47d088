"""The mailbox of a fetch: what was asked for, once, in order, and nothing else."""

from __future__ import annotations

import threading

from agent.link.collector import Collector, Collectors


def test_all_that_arrived_is_taken_at_once_and_in_order() -> None:
    collector = Collector()
    collector.expect(["a", "b", "c"])
    collector.deliver("b", b"2")
    collector.deliver("a", b"1")
    assert collector.take_all(0.0) == [("b", b"2"), ("a", b"1")]
    assert collector.take_all(0.0) == []


def test_what_was_not_asked_for_or_came_already_is_refused() -> None:
    collector = Collector()
    collector.expect(["a"])
    assert not collector.deliver("b", b"")
    assert collector.deliver("a", b"1")
    assert not collector.deliver("a", b"again")
    assert collector.take(0.0) == ("a", b"1")
    assert collector.take(0.0) is None


def test_who_waits_is_woken_by_the_first() -> None:
    collector = Collector()
    collector.expect(["a"])
    threading.Timer(0.05, collector.deliver, ["a", b"1"]).start()
    assert collector.take_all(10.0) == [("a", b"1")]


def test_a_closed_collector_gets_nothing() -> None:
    collectors = Collectors()
    open_, closed = collectors.open(), collectors.open()
    for each in (open_, closed):
        each.expect(["a"])
    collectors.close(closed)
    assert collectors.deliver("a", b"1")
    assert (len(open_.take_all(0.0)), closed.take_all(0.0)) == (1, [])
