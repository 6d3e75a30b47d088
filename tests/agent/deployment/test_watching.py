"""A watch's reading of the server, the sums of good inferences, and waits."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.deployment import events as on
from agent.deployment.good_count import SAVE_EVERY_MS, GoodCount
from agent.deployment.waiting import FIRST_MS, LEAST_MS, LONGEST_MS, backoff_ms, is_due
from agent.deployment.watching import PROGRESS_MS, SILENCE_MS, Watch
from agent.journal import Journal
from agent.serving.protocol import ModelCounters, ServedModel, ServerCounters, ServerStatus
from contract.deployments import Cause

A, B, PROFILE = "a" * 64, "b" * 64, "e" * 64


def counters(boot: int, digest: str = A, good: int = 0) -> ServerCounters:
    seen = ModelCounters(digest=digest, profile=PROFILE, good=good, inferences=good)
    return ServerCounters(boot=f"{boot:032x}", families={"digits": seen})


def status(digest: str | None) -> ServerStatus:
    families = {}
    if digest is not None:
        families["digits"] = ServedModel(
            digest=digest,
            target="digits/1",
            variant="v",
            since_ms=1,
            fallback=digest != A,
            reason="bad digest" if digest != A else "",
        )
    unserved = {} if digest is not None else {"digits": "both are gone"}
    return ServerStatus(
        boot="0" * 32, pid=1, rss_bytes=1, port=1, families=families, unserved=unserved
    )


def test_the_first_look_learns_the_boot_and_a_later_change_is_a_death() -> None:
    watch = Watch(A, 0)
    assert watch.died(counters(1)) is None
    assert watch.died(counters(1)) is None
    assert isinstance(watch.died(counters(2)), on.ServerDied)
    assert watch.died(counters(2)) is None


def test_a_death_that_was_counted_as_silence_is_not_counted_again() -> None:
    watch = Watch(A, 0)
    watch.died(counters(1))
    assert watch.silent(1_000, "gone") is None
    assert isinstance(watch.silent(1_000 + SILENCE_MS, "gone"), on.ServerDied)
    assert watch.died(counters(2)) is None
    assert isinstance(watch.died(counters(3)), on.ServerDied)


def test_a_server_that_serves_something_else_has_given_the_candidate_up() -> None:
    given_up = Watch(A, 0).given_up(status(B), "digits")
    assert isinstance(given_up, on.Unwell)
    assert given_up.cause is Cause.CRASHED
    assert "bad digest" in given_up.detail


def test_a_server_that_serves_nothing_says_why() -> None:
    given_up = Watch(A, 0).given_up(status(None), "digits")
    assert isinstance(given_up, on.Unwell)
    assert "both are gone" in given_up.detail


def test_a_server_that_serves_the_candidate_has_not_given_it_up() -> None:
    assert Watch(A, 0).given_up(status(A), "digits") is None


def test_a_long_stretch_is_written_down_and_the_next_begins() -> None:
    watch = Watch(A, 1_000)
    assert watch.progress(1_000 + PROGRESS_MS - 1) is None
    assert watch.progress(1_000 + PROGRESS_MS) == on.Progressed(watched_ms=PROGRESS_MS)
    assert watch.progress(1_000 + PROGRESS_MS + 1) is None


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    return Journal(tmp_path / "journal.sqlite")


def test_good_inferences_add_up_over_boots_of_the_server(journal: Journal) -> None:
    good = GoodCount(journal)
    good.see(counters(1, good=10), 0)
    good.see(counters(1, good=15), 1)
    good.see(counters(2, good=3), 2)
    assert good.total("digits", A) == 18
    assert good.total("digits", B) == 0
    assert good.total("kws", A) == 0


def test_a_model_that_begins_anew_in_the_same_boot_goes_on_counting(journal: Journal) -> None:
    good = GoodCount(journal)
    good.see(counters(1, good=10), 0)
    good.see(counters(1, good=2), 1)
    assert good.total("digits", A) == 12


def test_the_sum_is_saved_rarely_and_read_by_the_next_process(journal: Journal) -> None:
    good = GoodCount(journal)
    good.see(counters(1, good=10), 0)
    assert journal.good_inferences("digits", A).total == 0
    good.see(counters(1, good=20), SAVE_EVERY_MS)
    assert journal.good_inferences("digits", A).total == 20
    later = GoodCount(journal)
    later.see(counters(2, good=1), 0)
    assert later.total("digits", A) == 21


def test_a_process_that_starts_anew_beside_the_same_server_counts_nothing_twice(
    journal: Journal,
) -> None:
    good = GoodCount(journal)
    good.see(counters(1, good=7), 0)
    good.see(counters(2, good=20), 1)
    good.save("digits", 2)
    later = GoodCount(journal)
    later.see(counters(2, good=25), 0)
    assert later.total("digits", A) == 32
    later.see(counters(3, good=1), 1)
    assert later.total("digits", A) == 33


def test_another_digest_begins_at_zero(journal: Journal) -> None:
    good = GoodCount(journal)
    good.see(counters(1, A, good=10), 0)
    good.save("digits", 1)
    good.see(counters(1, B, good=4), 2)
    assert good.total("digits", B) == 4
    assert good.total("digits", A) == 0


@pytest.mark.parametrize("tries", [1, 2, 5, 20, 10_000])
def test_a_wait_grows_is_bounded_and_never_nothing(tries: int) -> None:
    assert backoff_ms(tries, 0.0) == LEAST_MS
    assert backoff_ms(tries, 1.0) == min(LONGEST_MS, FIRST_MS * 2 ** min(tries - 1, 20))
    assert LEAST_MS <= backoff_ms(tries) <= LONGEST_MS


@pytest.mark.parametrize(
    ("retry_at_ms", "now_ms", "due"),
    [(None, 0, False), (None, 1 << 60, False), (5, 4, False), (5, 5, True), (5, 6, True)],
)
def test_only_a_try_that_was_put_off_is_ever_due(
    retry_at_ms: int | None, now_ms: int, due: bool
) -> None:
    assert is_due(retry_at_ms, now_ms) == due
