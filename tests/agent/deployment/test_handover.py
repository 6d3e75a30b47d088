"""From the journal to the outbox: once each, in order, whatever one of the two cannot take."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.deployment.drafts import EventDraft, encode_draft
from agent.deployment.handover import Handover
from agent.errors import DiskFull
from agent.journal import Journal
from contract.deployments import Phase
from contract.errors import MessageTooLong


def draft(key: str) -> EventDraft:
    return EventDraft(
        key=key,
        family="digits",
        target="digits/1",
        digest="a" * 64,
        rollout="r-1",
        assignment_seq=1,
        phase=Phase.FETCHING,
    )


class Outbox:
    """Refuses what it is told to."""

    def __init__(self) -> None:
        self.has: list[str] = []
        self.refuses: dict[str, Exception] = {}

    def emit(self, given: EventDraft) -> None:
        if given.key in self.refuses:
            raise self.refuses[given.key]
        self.has.append(given.key)


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    journal = Journal(tmp_path / "journal.sqlite")
    journal.save_deployment("digits", b"{}", [encode_draft(draft(k)) for k in ("a", "b", "c")])
    return journal


@pytest.fixture
def outbox() -> Outbox:
    return Outbox()


@pytest.fixture
def handover(journal: Journal, outbox: Outbox) -> Handover:
    return Handover(journal, outbox.emit, lambda point: None)


def test_everything_goes_over_in_order_and_leaves_the_journal(
    handover: Handover, journal: Journal, outbox: Outbox
) -> None:
    handover.flush()
    handover.flush()
    assert outbox.has == ["a", "b", "c"]
    assert journal.drafts() == []


def test_an_outbox_without_room_keeps_the_order(
    handover: Handover, journal: Journal, outbox: Outbox
) -> None:
    outbox.refuses["b"] = DiskFull("no room")
    handover.flush()
    assert outbox.has == ["a"]
    outbox.refuses.clear()
    handover.flush()
    assert outbox.has == ["a", "b", "c"]


@pytest.mark.parametrize("statement", ["PRAGMA query_only = 1", "PRAGMA max_page_count = 1"])
def test_what_the_journal_cannot_forget_is_not_handed_over_twice(
    handover: Handover, journal: Journal, outbox: Outbox, statement: str
) -> None:
    journal._db.execute(statement)
    for _ in range(3):
        handover.flush()
    journal._db.execute("PRAGMA query_only = 0")
    handover.flush()
    assert outbox.has == ["a", "b", "c"]
    assert journal.drafts() == []


def test_an_event_that_cannot_be_told_does_not_hold_up_the_others(
    handover: Handover, journal: Journal, outbox: Outbox, caplog: pytest.LogCaptureFixture
) -> None:
    journal.save_deployment("digits", b"{}", [b"not a draft"])
    outbox.refuses["b"] = MessageTooLong("9,000 bytes")
    handover.flush()
    assert outbox.has == ["a", "c"]
    assert journal.drafts() == []
    assert caplog.text.count("a defect") == 2
