"""Intake: bounded, nothing acknowledged that is not stored, nothing lost that can be kept."""

from __future__ import annotations

import ssl
import threading

import pytest
from paho.mqtt.client import MQTTMessage
from sqlalchemy import event, select
from sqlalchemy.exc import OperationalError

from contract.messages import Want
from contract.topics import Channel
from fleet import inbox
from fleet.ca import Authority
from fleet.inbox import Incoming
from fleet.ingest import Ingest
from fleet.intake import Intake
from fleet.link import Link, LinkDown, LinkSettings, Outgoing
from fleet.ports import HubServices
from fleet.storage.schema import Rejected, StoredEvent
from tests.fleet.harness import Device, enrolled


def make_link(hub: HubServices) -> Link:
    """A link that was never started: what comes in is put there by the test."""
    certificate, key = Authority(hub.directory / "ca").pair("hub")

    def context() -> ssl.SSLContext:
        made = ssl.create_default_context(cafile=hub.directory / "ca" / "root.crt")
        made.load_cert_chain(certificate, key)
        return made

    settings = LinkSettings("127.0.0.1", 1, context)
    return Link(settings, threading.Event(), lambda: 0)


def deliver(link: Link, topic: str, payload: bytes) -> None:
    """As paho's network thread does."""
    message = MQTTMessage(topic=topic.encode())
    message.payload = payload
    link._on_message(link._client, None, message)


@pytest.fixture
def cam(hub: HubServices) -> Device:
    return enrolled(hub, "cam-1")


def stored(hub: HubServices) -> list[int]:
    with hub.storage.reading() as session:
        return [row.seq for row in session.scalars(select(StoredEvent))]


def test_what_does_not_fit_in_the_queue_is_counted(
    hub: HubServices, cam: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inbox, "QUEUE_LENGTH", 2)
    link = make_link(hub)
    for seq in range(5):
        deliver(link, cam.topic(Channel.EVENT), cam.event(seq))
    assert (link.status().received, link.status().queued) == (5, 2)

    Intake(link, Ingest(hub.storage), lambda _: None, hub.clock).step()

    assert stored(hub) == [0, 1]
    with hub.storage.reading() as session:
        (row,) = session.scalars(select(Rejected))
    assert (row.error, row.count) == ("QueueFull", 3)


def test_bytes_are_bounded_and_room_comes_back(
    hub: HubServices, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inbox, "QUEUE_BYTES", 100)
    link = make_link(hub)
    for _ in range(5):
        deliver(link, "outrider/v1/dev/cam-1/up/report", b"x" * 40)
    assert link.status().queued == 2

    link.incoming.get_nowait()
    deliver(link, "outrider/v1/dev/cam-1/up/report", b"x" * 40)

    assert (link.status().queued, link.take_dropped()) == (2, 3)


def test_a_device_that_floods_leaves_room_for_the_others(
    hub: HubServices, cam: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inbox, "TOPIC_LENGTH", 3)
    link = make_link(hub)
    for _ in range(50):
        deliver(link, "outrider/v1/dev/loud/up/event", b"x")
    deliver(link, cam.topic(Channel.EVENT), cam.event(1))

    Intake(link, Ingest(hub.storage), lambda _: None, hub.clock).step()

    assert stored(hub) == [1]
    assert link.status().queued == 0


def test_a_topic_that_is_no_text_does_not_end_the_network_thread(hub: HubServices) -> None:
    link = make_link(hub)
    link._on_message(link._client, None, MQTTMessage(topic=b"outrider/\xff"))
    assert link.status().received == 1


def test_many_messages_are_one_batch(hub: HubServices, cam: Device) -> None:
    link = make_link(hub)
    for seq in range(150):
        deliver(link, cam.topic(Channel.EVENT), cam.event(seq))
    commits: list[object] = []
    event.listen(hub.storage.engine, "commit", commits.append)

    Intake(link, Ingest(hub.storage), lambda _: None, hub.clock).step()

    assert len(stored(hub)) == 150
    assert len(commits) == 1


def test_a_batch_that_could_not_be_stored_is_tried_again(hub: HubServices, cam: Device) -> None:
    link = make_link(hub)
    deliver(link, cam.topic(Channel.EVENT), cam.event(1))
    intake = Intake(link, Ingest(hub.storage), lambda _: None, hub.clock)

    def full(*_: object) -> None:
        raise OperationalError("COMMIT", {}, Exception("disk is full"))

    event.listen(hub.storage.engine, "commit", full)
    with pytest.raises(OperationalError):
        intake.step()
    event.remove(hub.storage.engine, "commit", full)
    assert stored(hub) == []

    intake.step()

    assert stored(hub) == [1]


def test_a_quiet_link_costs_no_transaction(hub: HubServices) -> None:
    commits: list[object] = []
    event.listen(hub.storage.engine, "commit", commits.append)

    Intake(make_link(hub), Ingest(hub.storage), lambda _: None, hub.clock).step()

    assert commits == []


def test_wants_are_handed_on(hub: HubServices, cam: Device) -> None:
    from contract.codec import encode

    link, wants = make_link(hub), list[Want]()
    want = Want(device="cam-1", target="digits/1", blobs=["a" * 64])
    link.incoming.put(Incoming(cam.topic(Channel.WANT), encode(want), False))

    Intake(link, Ingest(hub.storage), wants.append, hub.clock).step()

    assert wants == [want]


def test_nothing_can_be_sent_over_a_link_that_is_down(hub: HubServices) -> None:
    link = make_link(hub)

    with pytest.raises(LinkDown):
        link.send([Outgoing("outrider/v1/hub/epoch", b"x", retain=True)])
    link.offer(Outgoing("outrider/v1/hub/epoch", b"x", retain=True))  # and it is not kept either

    assert link.status().connected is False
