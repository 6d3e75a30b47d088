"""What is asked for in one request over HTTPS, and when a fetch is given up."""

from __future__ import annotations

import pytest

from agent.errors import Tampered, TransportFailed
from agent.link.https_plan import BATCH_BYTES, MAX_VAIN, HttpsPlan
from agent.link.rate import TokenBucket
from agent.ports import BlobRef
from contract.blob_request import MAX_DIGESTS


def refs(count: int, length: int = 100) -> list[BlobRef]:
    return [BlobRef(f"{number:064x}", length) for number in range(count)]


def test_a_request_asks_for_a_bounded_number_of_blobs_and_bytes() -> None:
    assert len(HttpsPlan.of(refs(500), TokenBucket()).batch(0.0)) == MAX_DIGESTS
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
