"""What is asked for in one request over HTTPS, and when a fetch is given up."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.errors import Tampered, TransportFailed
from agent.link.https_plan import (
    BATCH_BYTES,
    MAX_STORE_FAILURES,
    MAX_VAIN,
    PLACED_BYTES,
    STORE_REST_S,
    HttpsPlan,
    StorePatience,
    Stretch,
    stretches,
)
from agent.link.rate import TokenBucket
from agent.ports import BlobRef
from contract.blob_request import MAX_DIGESTS, MAX_STREAMED


def refs(count: int, length: int = 100) -> list[BlobRef]:
    return [BlobRef(f"{number:064x}", length) for number in range(count)]


def test_a_request_asks_for_a_bounded_number_of_blobs_and_bytes() -> None:
    assert len(HttpsPlan.of(refs(500), TokenBucket()).batch(0.0)) == MAX_STREAMED
    large = HttpsPlan.of(refs(500, 100_000), TokenBucket()).batch(0.0)
    assert sum(ref.length for ref in large) < BATCH_BYTES + 100_000


def test_a_blob_that_is_wanted_twice_is_asked_for_once() -> None:
    assert HttpsPlan.of(refs(3) * 2, TokenBucket()).batch(0.0) == refs(3)


def test_the_next_request_asks_for_the_outstanding_ones_only() -> None:
    plan = HttpsPlan.of(refs(3), TokenBucket())
    first, second, third = plan.batch(0.0)
    plan.arrived(first, 50)
    plan.absent(second)
    assert plan.ended("cut off") == 0.0
    assert plan.batch(0.0) == [third, second]


def test_the_rate_bounds_what_is_asked_for() -> None:
    plan = HttpsPlan.of(refs(10, 1_000), TokenBucket(rate=2_000.0))
    assert len(plan.batch(0.0)) == 2
    plan.ended("nothing came")
    assert plan.batch(0.0) == refs(2, 1_000)  # what never came costs nothing
    for ref in refs(2, 1_000):
        plan.arrived(ref, 1_000)
    plan.ended("")
    assert plan.batch(0.0) == []
    assert plan.batch(0.6) == [refs(3, 1_000)[2], refs(4, 1_000)[3]]


def test_what_compression_saved_may_be_asked_for_at_once() -> None:
    plan = HttpsPlan.of(refs(3, 1_000), TokenBucket(rate=1_000.0))
    [ref] = plan.batch(0.0)
    plan.arrived(ref, 10)
    assert len(plan.batch(0.0)) == 1


def test_wrong_bytes_are_asked_for_once_more_and_are_tampering_then() -> None:
    plan = HttpsPlan.of(refs(1), TokenBucket())
    [ref] = plan.batch(0.0)
    plan.broken(ref, "another digest")
    assert plan.ended("") == 0.0
    assert plan.batch(0.0) == [ref]
    with pytest.raises(Tampered, match="another digest"):
        plan.broken(ref, "another digest")


def test_requests_that_bring_nothing_wait_longer_and_longer_and_end() -> None:
    plan = HttpsPlan.of(refs(1), TokenBucket())
    waits = []
    for _ in range(MAX_VAIN - 1):
        plan.batch(0.0)
        waits.append(plan.ended("no hub"))
    assert waits == [1.0, 2.0, 4.0]
    with pytest.raises(TransportFailed, match="no hub"):
        plan.ended("no hub")


def test_a_request_that_brings_something_starts_the_count_again() -> None:
    plan = HttpsPlan.of(refs(2), TokenBucket())
    for _ in range(MAX_VAIN - 1):
        plan.ended("no hub")
    plan.arrived(plan.batch(0.0)[0], 10)
    assert plan.ended("cut") == 0.0
    assert plan.batch(0.0)
    assert plan.ended("no hub") == 1.0


def test_where_blobs_come_in_stretches_a_request_asks_for_more() -> None:
    plan = HttpsPlan.of(refs(2_000, 100), TokenBucket())
    assert len(plan.batch(0.0, placed=True)) == MAX_DIGESTS
    large = HttpsPlan.of(refs(2_000, 100_000), TokenBucket()).batch(0.0, placed=True)
    assert PLACED_BYTES <= sum(ref.length for ref in large) < PLACED_BYTES + 100_000


def test_what_stands_together_is_read_together_and_nothing_in_between() -> None:
    a, b, c, d, e = refs(5)
    found = stretches([c, a, b, d, e], [(30, 5), (0, 10), (10, 20), (0, 0), (99, 1)])
    assert [(s.start, s.length) for s in found] == [(0, 35), (99, 1)]
    assert [s.blobs for s in found] == [[(a, 10), (b, 20), (c, 5)], [(e, 1)]]


@given(st.lists(st.tuples(st.integers(0, 1_000), st.integers(0, 50)), max_size=40))
def test_every_blob_that_has_a_place_is_in_one_stretch(places: list[tuple[int, int]]) -> None:
    wanted = refs(len(places))
    found = stretches(wanted, places)
    read = [piece for stretch in found for piece in pieces(stretch)]
    expected = [(*place, ref) for place, ref in zip(places, wanted, strict=True) if place[1]]
    assert sorted(read, key=repr) == sorted(expected, key=repr)
    assert [s.start for s in found] == sorted(s.start for s in found)


def pieces(stretch: Stretch) -> Iterator[tuple[int, int, BlobRef]]:
    start = stretch.start
    for ref, length in stretch.blobs:
        yield start, length, ref
        start += length
    assert start == stretch.start + stretch.length


def test_a_store_that_fails_again_is_left_alone_for_a_while() -> None:
    patience = StorePatience()
    for _ in range(MAX_STORE_FAILURES - 1):
        patience.failed(100.0)
    assert patience.may_ask(100.0)  # the address may have expired
    patience.failed(100.0)
    assert not patience.may_ask(100.0 + STORE_REST_S - 1)
    assert patience.may_ask(100.0 + STORE_REST_S)


def test_failures_far_apart_do_not_add_up() -> None:
    patience = StorePatience()
    for _ in range(5):
        patience.failed(0.0)
        patience.brought()
    assert patience.may_ask(0.0)
