"""Which way a fetch takes, by its size and by what the broker gives."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest

from agent.errors import Tampered, TransportFailed
from agent.link.sources import SizedBlobSource, Source, choose_source
from agent.ports import BlobRef

MIB = 1 << 20
REFS = [BlobRef(f"{number:064x}", 100) for number in range(4)]


class Holding:
    """A source that holds some blobs, and fails for the others."""

    def __init__(self, holds: Sequence[BlobRef], error: type[Exception] = TransportFailed) -> None:
        self.holds = list(holds)
        self.error = error
        self.asked: list[list[BlobRef]] = []

    def fetch(
        self,
        target: str,
        wanted: Sequence[BlobRef],
        sink: Callable[[BlobRef, bytes], None],
        cancelled: Callable[[], bool],
    ) -> int:
        self.asked.append(list(wanted))
        for ref in wanted:
            if ref not in self.holds:
                raise self.error(f"{target}: no {ref.digest}")
            sink(ref, b"x" * ref.length)
        return 10 * len(wanted)


def fetched(source: SizedBlobSource, target: str = "digits/1") -> tuple[list[BlobRef], int]:
    found: list[BlobRef] = []
    received = source.fetch(target, REFS, lambda ref, _: found.append(ref), lambda: False)
    return found, received


@pytest.mark.parametrize(
    ("size", "limit", "expected"),
    [
        (0, 64 * MIB, Source.BROKER),
        (64 * MIB, 64 * MIB, Source.BROKER),
        (64 * MIB + 1, 64 * MIB, Source.HTTPS),
        (1, 0, Source.HTTPS),
        (0, 0, Source.HTTPS),
        (1 << 39, 1 << 40, Source.BROKER),
    ],
)
def test_a_fetch_above_the_limit_goes_over_https(size: int, limit: int, expected: Source) -> None:
    assert choose_source(size, limit) is expected


def test_a_small_fetch_asks_the_broker_alone() -> None:
    broker, https = Holding(REFS), Holding(REFS)
    assert fetched(SizedBlobSource(broker, https, 400)) == (REFS, 40)
    assert https.asked == []


def test_a_large_fetch_asks_the_hub_alone() -> None:
    broker, https = Holding(REFS), Holding(REFS)
    assert fetched(SizedBlobSource(broker, https, 399)) == (REFS, 40)
    assert broker.asked == []


def test_what_the_broker_lacks_comes_from_the_hub_and_each_blob_once() -> None:
    broker, https = Holding(REFS[:2]), Holding(REFS)
    found, received = fetched(SizedBlobSource(broker, https, MIB))
    assert (found, received) == (REFS, 200 + 20)
    assert https.asked == [REFS[2:]]


def test_a_broker_that_lacks_a_release_is_not_waited_for_twice() -> None:
    broker, https = Holding([]), Holding(REFS)
    source = SizedBlobSource(broker, https, MIB)
    fetched(source)
    fetched(source)
    assert (len(broker.asked), len(https.asked)) == (1, 2)
    fetched(source, "digits/2")
    assert len(broker.asked) == 2


def test_a_broker_that_is_merely_gone_is_asked_again_when_the_hub_is_too() -> None:
    broker, https = Holding([]), Holding([])
    source = SizedBlobSource(broker, https, MIB)
    for _ in range(2):
        with pytest.raises(TransportFailed):
            fetched(source)
    assert (len(broker.asked), len(https.asked)) == (2, 2)


def test_tampering_at_the_broker_is_not_passed_over_in_silence() -> None:
    https = Holding(REFS)
    with pytest.raises(Tampered):
        fetched(SizedBlobSource(Holding([], Tampered), https, MIB))
    assert https.asked == []
