"""Ingest: what is stored, what is refused, and what may be acknowledged."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from sqlalchemy import event, select
from sqlalchemy.exc import OperationalError

from contract import messages as m
from contract.codec import encode
from contract.deployments import Phase
from contract.messages import FamilyState, Verb
from contract.topics import Channel, epoch_topic
from fleet import records
from fleet.assignments import command
from fleet.devices import add_device, remove_device
from fleet.inbox import Incoming
from fleet.ingest import Ingest, Outcome
from fleet.ports import HubServices
from fleet.storage.schema import (
    Device,
    OutgoingCommand,
    Received,
    Rejected,
    StoredEvent,
    StoredReport,
)
from tests.fleet.harness import BOOT, DIGEST, OTHER_BOOT, enrolled
from tests.fleet.harness import Device as Voice

NOW = 1_900_000_000_000
Say = Callable[..., Outcome]


@pytest.fixture
def cam(hub: HubServices) -> Voice:
    return enrolled(hub, "cam-1")


@pytest.fixture
def ingest(hub: HubServices) -> Ingest:
    return Ingest(hub.storage)


@pytest.fixture
def say(ingest: Ingest, cam: Voice) -> Say:
    def say(
        channel: Channel, *payloads: bytes, topic: str | None = None, retained: bool = False
    ) -> Outcome:
        where = topic or cam.topic(channel)
        return ingest.store([Incoming(where, p, retained) for p in payloads], NOW)

    return say


def acked(outcome: Outcome) -> dict[tuple[str, str], list[int]]:
    return {(ack.device, part.boot): part.seqs for ack in outcome.acks for part in ack.acked}


def rejected(hub: HubServices) -> dict[tuple[str, str], int]:
    with hub.storage.reading() as session:
        return {(row.channel, row.error): row.count for row in session.scalars(select(Rejected))}


def device(hub: HubServices) -> Device:
    with hub.storage.reading() as session:
        return session.get_one(Device, "cam-1")


def events(hub: HubServices) -> list[StoredEvent]:
    with hub.storage.reading() as session:
        return list(session.scalars(select(StoredEvent).order_by(StoredEvent.id)))


def test_an_event_is_stored_whole_and_acknowledged(hub: HubServices, cam: Voice, say: Say) -> None:
    outcome = say(Channel.EVENT, cam.event(1, figures={"swap_ms": 1.5}, rollout="r1"))

    assert acked(outcome) == {("cam-1", BOOT): [1]}
    (row,) = events(hub)
    assert (row.kind, row.device, row.boot, row.seq) == ("event", "cam-1", BOOT, 1)
    assert (row.family, row.target, row.digest, row.rollout) == ("digits", "digits/1", DIGEST, "r1")
    assert (row.phase, row.figures, row.received_at_ms) == ("committed", {"swap_ms": 1.5}, NOW)
    assert device(hub).last_seen_ms == NOW


def test_a_duplicate_is_acknowledged_again_and_stored_once(
    hub: HubServices, cam: Voice, say: Say
) -> None:
    first = say(Channel.EVENT, cam.event(1), cam.event(1))
    second = say(Channel.EVENT, cam.event(1))

    assert (first.stored, second.stored) == (1, 0)
    assert acked(second) == {("cam-1", BOOT): [1]}
    assert len(events(hub)) == 1


def test_another_hub_process_knows_what_was_stored(hub: HubServices, cam: Voice, say: Say) -> None:
    say(Channel.EVENT, cam.event(1))

    again = Ingest(hub.storage).store(
        [Incoming(cam.topic(Channel.EVENT), cam.event(1), False)], NOW
    )

    assert again.stored == 0
    assert acked(again) == {("cam-1", BOOT): [1]}


def test_the_same_number_of_another_boot_is_another_row(
    hub: HubServices, cam: Voice, say: Say
) -> None:
    outcome = say(Channel.EVENT, cam.event(1), cam.event(1, boot=OTHER_BOOT))

    assert outcome.stored == 2
    assert acked(outcome) == {("cam-1", BOOT): [1], ("cam-1", OTHER_BOOT): [1]}


def test_a_report_is_stored_whole(hub: HubServices, cam: Voice, say: Say) -> None:
    outcome = say(Channel.REPORT, cam.report(4))

    assert acked(outcome) == {("cam-1", BOOT): [4]}
    with hub.storage.reading() as session:
        (row,) = session.scalars(select(StoredReport))
    assert (row.window_ms, row.body["device"], row.body["seq"]) == (60_000, "cam-1", 4)


def test_an_event_that_a_stranger_signed_is_refused(hub: HubServices, cam: Voice, say: Say) -> None:
    outcome = say(Channel.EVENT, Voice("cam-1").event(1))

    assert (outcome.acks, events(hub)) == ([], [])
    assert rejected(hub) == {("up/event", "BadSignature"): 1}


def test_an_altered_event_is_refused(hub: HubServices, cam: Voice, say: Say) -> None:
    sealed = cam.event(1)
    at = sealed.index(b'"payload":"') + 60
    altered = sealed[:at] + (b"A" if sealed[at : at + 1] != b"A" else b"B") + sealed[at + 1 :]

    assert say(Channel.EVENT, altered).acks == []
    assert events(hub) == []


def test_an_unsigned_event_is_refused(hub: HubServices, cam: Voice, say: Say) -> None:
    plain = m.Event(
        device="cam-1",
        seq=1,
        stamp=cam.stamp(),
        family="digits",
        target="digits/1",
        digest=DIGEST,
        phase=Phase.IDLE,
    )

    say(Channel.EVENT, encode(plain))

    assert rejected(hub) == {("up/event", "MalformedMessage"): 1}


def test_a_message_that_names_another_device_is_refused(
    hub: HubServices, cam: Voice, say: Say
) -> None:
    say(Channel.EVENT, cam.event(1, device="cam-2"))

    assert events(hub) == []
    assert rejected(hub) == {("up/event", "WrongDevice"): 1}


def test_a_state_in_the_event_channel_is_refused(hub: HubServices, cam: Voice, say: Say) -> None:
    say(Channel.EVENT, cam.state())

    assert rejected(hub) == {("up/event", "UnknownKind"): 1}


def test_a_removed_device_is_ignored(hub: HubServices, cam: Voice, say: Say) -> None:
    remove_device(hub, "cam-1")

    outcome = say(Channel.EVENT, cam.event(1))
    say(Channel.REPORT, cam.report(2))

    assert outcome.acks == []
    assert rejected(hub) == {("up/event", "RevokedDevice"): 1, ("up/report", "RevokedDevice"): 1}
    assert device(hub).last_seen_ms is None


def test_a_device_without_certificate_is_ignored(hub: HubServices, say: Say) -> None:
    add_device(hub, "cam-2", "generic", {})

    say(Channel.REPORT, Voice("cam-2").report(1), topic=Voice("cam-2").topic(Channel.REPORT))
    say(Channel.REPORT, Voice("cam-3").report(1), topic=Voice("cam-3").topic(Channel.REPORT))

    assert rejected(hub) == {("up/report", "UnknownDevice"): 2}


@pytest.mark.parametrize(
    ("topic", "counted"),
    [
        ("outrider/v1/dev/cam-1/up/nonsense", ("unknown", "InvalidTopic")),
        ("outrider/v1/dev/CAM/up/event", ("unknown", "InvalidTopic")),
        ("elsewhere/\u0007bell", ("unknown", "InvalidTopic")),
        ("outrider/v1/dev/cam-1/down/ack", ("down/ack", "NotDevicesChannel")),
        (epoch_topic(), ("hub/epoch", "NotDevicesChannel")),
    ],
)
def test_foreign_topics_are_counted(
    hub: HubServices, say: Say, topic: str, counted: tuple[str, str]
) -> None:
    say(Channel.EVENT, b"{}", topic=topic)

    assert rejected(hub) == {counted: 1}


@pytest.mark.parametrize("channel", [Channel.EVENT, Channel.REPORT, Channel.STATE, Channel.WANT])
@pytest.mark.parametrize(
    "payload", [b"{", b"\xff\xfe", b"[]", b"null", b"[" * 50_000, b'{"kind":"report","v":9}']
)
def test_nonsense_is_counted_and_never_raises(
    hub: HubServices, say: Say, channel: Channel, payload: bytes
) -> None:
    outcome = say(channel, payload)

    assert outcome.acks == []
    assert sum(rejected(hub).values()) == 1


def test_refusals_are_counted_by_class_and_keep_the_last_topic(
    hub: HubServices, cam: Voice, say: Say
) -> None:
    say(Channel.EVENT, b"{", b"{")
    say(Channel.EVENT, b"{")

    with hub.storage.reading() as session:
        (row,) = session.scalars(select(Rejected))
    assert (row.count, row.last_topic, row.last_at_ms) == (3, cam.topic(Channel.EVENT), NOW)


def test_refused_messages_do_not_hold_up_good_ones(hub: HubServices, cam: Voice, say: Say) -> None:
    outcome = say(Channel.EVENT, b"{", cam.event(1), Voice("cam-1").event(2), cam.event(3))

    assert acked(outcome) == {("cam-1", BOOT): [1, 3]}


def test_a_cleared_topic_is_no_message(hub: HubServices, say: Say) -> None:
    say(Channel.STATE, b"", retained=False)

    assert rejected(hub) == {}


def test_a_state_updates_the_device(hub: HubServices, cam: Voice, say: Say) -> None:
    serving = FamilyState(phase=Phase.COMMITTED, serving=DIGEST, target="digits/1")
    say(Channel.STATE, cam.state(assignment_seq=7, families={"digits": serving}, free_bytes=9))

    row = device(hub)
    assert (row.reported_seq, row.free_bytes, row.last_seen_ms) == (7, 9, NOW)
    assert row.families["digits"]["serving"] == DIGEST
    assert row.families["digits"]["phase"] == "committed"


def test_an_older_state_of_the_same_boot_is_a_replay(
    hub: HubServices, cam: Voice, say: Say
) -> None:
    say(Channel.STATE, cam.state(2_000, assignment_seq=2))
    say(Channel.STATE, cam.state(1_000, assignment_seq=1))

    assert device(hub).reported_seq == 2
    assert rejected(hub) == {("up/state", "ReplayedState"): 1}


def test_a_state_of_a_boot_that_is_over_is_a_replay(hub: HubServices, cam: Voice, say: Say) -> None:
    say(Channel.STATE, cam.state(2_000, assignment_seq=1))
    say(Channel.STATE, cam.state(10, boot=OTHER_BOOT, assignment_seq=2))
    say(Channel.STATE, cam.state(3_000, assignment_seq=1))

    assert device(hub).reported_seq == 2
    assert rejected(hub) == {("up/state", "ReplayedState"): 1}


def test_the_brokers_memory_does_not_make_a_device_seem_alive(
    hub: HubServices, cam: Voice, say: Say
) -> None:
    say(Channel.STATE, cam.state(assignment_seq=3), retained=True)
    say(Channel.PRESENCE, cam.birth(), retained=True)

    row = device(hub)
    assert (row.reported_seq, row.agent, row.last_seen_ms) == (3, "0.1.0", None)


def test_a_death_counts_for_its_own_session_only(hub: HubServices, cam: Voice, say: Say) -> None:
    say(Channel.PRESENCE, cam.birth(BOOT))
    say(Channel.PRESENCE, encode(m.Death(device="cam-1", session=OTHER_BOOT)))
    assert device(hub).online

    say(Channel.PRESENCE, encode(m.Death(device="cam-1", session=BOOT)))
    assert not device(hub).online


def test_a_reply_closes_its_command(hub: HubServices, cam: Voice, say: Say) -> None:
    from contract.envelope import seal

    with hub.storage.session() as session:
        sent = command(session, "cam-1", Verb.RELEASE_HOLD, "digits", NOW).id
    reply = m.Reply(
        device="cam-1", seq=5, stamp=cam.stamp(), command=sent, ok=False, detail="no hold"
    )

    outcome = say(Channel.EVENT, seal(reply, cam.key))

    assert acked(outcome) == {("cam-1", BOOT): [5]}
    with hub.storage.reading() as session:
        row = session.get_one(OutgoingCommand, sent)
    assert (row.ok, row.detail, row.replied_at_ms) == (False, "no hold", NOW)


def test_wants_are_passed_on_after_the_commit(cam: Voice, say: Say) -> None:
    want = m.Want(device="cam-1", target="digits/1", blobs=[DIGEST])

    assert say(Channel.WANT, encode(want)).wants == [want]


def test_a_batch_that_cannot_be_committed_is_not_acknowledged(
    hub: HubServices, cam: Voice, ingest: Ingest
) -> None:
    def full(*_: object) -> None:
        raise OperationalError("COMMIT", {}, Exception("disk is full"))

    event.listen(hub.storage.engine, "commit", full)
    try:
        with pytest.raises(OperationalError):
            ingest.store([Incoming(cam.topic(Channel.EVENT), cam.event(1), False)], NOW)
    finally:
        event.remove(hub.storage.engine, "commit", full)

    assert events(hub) == []
    again = ingest.store([Incoming(cam.topic(Channel.EVENT), cam.event(1), False)], NOW)
    assert again.stored == 1


def test_one_message_that_the_database_refuses_does_not_hold_up_the_others(
    hub: HubServices, cam: Voice, ingest: Ingest
) -> None:
    def poison(_c: object, _u: object, statement: str, parameters: object, *_: object) -> None:
        if "INSERT INTO events" in statement and "poison" in str(parameters):
            raise OperationalError(statement, {}, Exception("cannot store this"))

    event.listen(hub.storage.engine, "before_cursor_execute", poison)
    batch = [cam.event(1), cam.event(2, detail="poison"), cam.event(3)]
    outcome = ingest.store([Incoming(cam.topic(Channel.EVENT), p, False) for p in batch], NOW)
    event.remove(hub.storage.engine, "before_cursor_execute", poison)

    assert sorted(seq for ack in outcome.acks for part in ack.acked for seq in part.seqs) == [1, 3]
    assert [row.seq for row in events(hub)] == [1, 3]


def test_received_rows_are_the_memory_of_what_was_stored(
    hub: HubServices, cam: Voice, say: Say
) -> None:
    say(Channel.EVENT, *(cam.event(seq) for seq in range(1, 150)))

    with hub.storage.reading() as session:
        assert len(list(session.scalars(select(Received)))) == 149


def test_a_message_that_no_column_takes_does_not_hold_up_the_others(
    hub: HubServices, say: Say, cam: Voice, monkeypatch: pytest.MonkeyPatch
) -> None:
    convert = records.Batch._event

    def fail(batch: records.Batch, message: m.Event | m.Reply) -> StoredEvent:
        if message.seq == 2:
            raise ValueError("surrogates not allowed")  # not the database's own error
        return convert(batch, message)

    monkeypatch.setattr(records.Batch, "_event", fail)

    outcome = say(Channel.EVENT, *(cam.event(seq) for seq in (1, 2, 3)))

    assert [ack.acked[0].seqs for ack in outcome.acks] == [[1], [3]]
    assert rejected(hub)[("up/event", "ValueError")] == 1
