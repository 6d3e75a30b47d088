"""What is deleted when: the oldest first, in pieces, never the newest, and nothing comes twice."""

from __future__ import annotations

from dataclasses import replace

import pytest
from sqlalchemy import delete, func, select

from contract.topics import Channel
from fleet import retention
from fleet.assembly import RunningHub
from fleet.inbox import Incoming
from fleet.ingest import Ingest
from fleet.ports import HubServices
from fleet.retention import AGAIN_S, EVERY_S, KEPT, Keep, Retention
from fleet.storage.schema import AuditEntry, Received, StoredEvent, StoredReport, Table
from tests.fleet.harness import Device, enrolled

NOW = 2_000_000_000_000


@pytest.fixture
def cam(hub: HubServices) -> Device:
    return enrolled(hub, "cam-1")


def say(hub: HubServices, cam: Device, channel: Channel, payload: bytes, now_ms: int) -> int:
    """Store one message; returns how many rows were new."""
    incoming = Incoming(cam.topic(channel), payload, False)
    outcome = Ingest(hub.storage).store([incoming], now_ms)
    assert outcome.acks
    return outcome.stored


def count(hub: HubServices, table: type[Table]) -> int:
    with hub.storage.reading() as session:
        return session.scalar(select(func.count()).select_from(table)) or 0


def prune(hub: HubServices, now_ms: int) -> list[float]:
    """Run until nothing is due; returns the pauses."""
    waits: list[float] = []
    kept = Retention(hub.storage, lambda: now_ms, waits.append)
    while not waits or waits[-1] == AGAIN_S:
        kept.step()
    return waits


def keep(table: type[Table]) -> Keep:
    return next(each for each in KEPT if each.table is table)


def test_what_is_too_old_goes_and_the_rest_stays(hub: HubServices, cam: Device) -> None:
    old_ms = NOW - keep(StoredReport).age_ms - 1
    for seq, at_ms in enumerate([old_ms, old_ms, NOW - 1_000, NOW]):
        say(hub, cam, Channel.REPORT, cam.report(seq), at_ms)

    prune(hub, NOW)

    with hub.storage.reading() as session:
        assert list(session.scalars(select(StoredReport.seq))) == [2, 3]


def test_what_is_too_much_goes_oldest_first_in_pieces(
    hub: HubServices, cam: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    few = tuple(replace(each, rows=3) for each in KEPT)
    monkeypatch.setattr(retention, "KEPT", few)
    monkeypatch.setattr(retention, "PIECE", 2)
    for seq in range(8):
        say(hub, cam, Channel.EVENT, cam.event(seq), NOW - 10 + seq)

    waits = prune(hub, NOW)

    assert waits == [AGAIN_S, AGAIN_S, AGAIN_S, EVERY_S]
    with hub.storage.reading() as session:
        assert list(session.scalars(select(StoredEvent.seq))) == [5, 6, 7]
    assert count(hub, Received) == 3


def test_the_newest_row_stays_so_that_no_number_is_given_twice(
    hub: HubServices, cam: Device
) -> None:
    for seq in range(3):
        say(hub, cam, Channel.REPORT, cam.report(seq), NOW)

    prune(hub, NOW + 10 * keep(StoredReport).age_ms)
    say(hub, cam, Channel.REPORT, cam.report(3), NOW)

    with hub.storage.reading() as session:
        assert list(session.scalars(select(StoredReport.id))) == [3, 4]


@pytest.mark.parametrize("channel", [Channel.EVENT, Channel.REPORT])
def test_a_row_that_comes_again_after_it_was_forgotten_is_acknowledged_and_not_stored_twice(
    hub: HubServices, cam: Device, channel: Channel
) -> None:
    payload = cam.event(1) if channel is Channel.EVENT else cam.report(1)
    assert say(hub, cam, channel, payload, NOW) == 1
    with hub.storage.session() as session:
        session.execute(delete(Received))

    assert say(hub, cam, channel, payload, NOW) == 0


def test_events_outlive_the_memory_of_what_was_received() -> None:
    assert keep(StoredEvent).age_ms > keep(Received).age_ms > keep(StoredReport).age_ms


def test_the_audit_is_bounded_too(hub: HubServices) -> None:
    with hub.storage.session() as session:
        for at_ms in (0, NOW):
            session.add(AuditEntry(at_ms=at_ms, actor="a", action="b", subject="c", detail={}))

    prune(hub, NOW)

    assert count(hub, AuditEntry) == 1


def test_a_running_hub_prunes(running: RunningHub) -> None:
    assert [worker.name for worker in running.workers].count("retention") == 1
