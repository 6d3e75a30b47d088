"""What the device says, and how often: over a real broker, acknowledged by a hub in the test."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from agent.delivery import Delivery
from agent.deployment.drafts import EventDraft
from agent.link.backoff import Backoff
from agent.outbox import Outbox
from agent.stamps import Stamper
from agent.uplink import Condition, Speaker, Uplink
from contract.codec import decode
from contract.deployments import Phase
from contract.envelope import key_id, open_sealed
from contract.messages import Ack, Acked, Birth, Event, FamilyState, Hardware, State
from contract.topics import Channel, device_topic
from tests.agent.wire import DEVICE, Hub, Link, eventually
from tests.mosquitto import Authority, Mosquitto

KEY = ec.generate_private_key(ec.SECP256R1())
KEYS = {key_id(KEY.public_key()): KEY.public_key()}
BOOT = "b" * 32
EVENTS = device_topic(DEVICE, Channel.EVENT)
STATES = device_topic(DEVICE, Channel.STATE)
PRESENCE = device_topic(DEVICE, Channel.PRESENCE)


class Device:
    """An uplink over a real link; the test holds its clock."""

    def __init__(self, link: Link, path: Path) -> None:
        self.link = link
        self.outbox = Outbox(path)
        stamper = Stamper(BOOT, lambda: 5_000, lambda: 1_000, lambda: 7)
        speaker = Speaker(DEVICE, "5" * 32, "0", KEY, Hardware(machine="x"), stamper)
        self.delivery = Delivery(Backoff(first_s=10.0, most_s=60.0))
        self.uplink = Uplink(
            speaker, link.connection, self.outbox, self.delivery, chance=lambda: 0.0
        )

    def acknowledge(self, *seqs: int, now_s: float = 0.0) -> None:
        self.uplink.acknowledged(Ack(device=DEVICE, acked=[Acked(BOOT, list(seqs))]), now_s)


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Mosquitto]:
    broker = Mosquitto(tmp_path / "broker", Authority(tmp_path / "ca"))
    broker.start()
    yield broker
    broker.stop()


@pytest.fixture
def hub(broker: Mosquitto) -> Iterator[Hub]:
    hub = Hub(broker, broker.authority.client("hub"))
    yield hub
    hub.close()


@pytest.fixture
def device(broker: Mosquitto, tmp_path: Path) -> Iterator[Device]:
    link = Link(broker, broker.authority.client(DEVICE)).up()
    yield Device(link, tmp_path / "outbox.sqlite")
    link.connection.stop()


def draft(number: int) -> EventDraft:
    return EventDraft(
        key=f"digits:1:{number}",
        family="digits",
        target="digits/1",
        digest="d" * 64,
        phase=Phase.FETCHING,
    )


def condition(good: int = 0, phase: Phase = Phase.PROBATION, seq: int = 1) -> Condition:
    family = FamilyState(phase=phase, serving="d" * 64, good_inferences=good)
    return Condition(assignment_seq=seq, families={"digits": family}, tuf_versions={"root": 1})


def seqs(hub: Hub) -> list[int]:
    found = [open_sealed((Event,), data, KEYS) for data in hub.on(EVENTS)]
    return [event.seq for event in found if isinstance(event, Event)]


def test_a_greeting_says_who_is_here_and_listens(hub: Hub, device: Device) -> None:
    assert device.uplink.greet()
    eventually(lambda: bool(hub.on(PRESENCE)))
    assert decode(Birth, hub.on(PRESENCE)[0]).session == "5" * 32


def test_a_state_is_told_when_it_changed_and_not_for_a_count(hub: Hub, device: Device) -> None:
    tell = device.uplink.tell_state
    assert tell(condition(), 1, 900.0)
    assert not tell(condition(), 2, 900.0)
    assert not tell(condition(good=500), 1, 900.0)
    assert tell(condition(good=500), 1, 900.0, again=True)
    assert tell(condition(good=500, phase=Phase.COMMITTED), 1, 900.0)
    eventually(lambda: len(hub.on(STATES)) == 3)
    states = [open_sealed((State,), data, KEYS) for data in hub.on(STATES)]
    goods = [s.families["digits"].good_inferences for s in states if isinstance(s, State)]
    assert goods == [0, 500, 500]


def test_a_state_that_could_not_be_told_is_told_later(broker: Mosquitto, device: Device) -> None:
    broker.kill()
    eventually(lambda: not device.link.connection.connected)
    assert not device.uplink.tell_state(condition(), 1, 900.0)
    broker.start()
    assert device.link.connection.wait_connected(10)
    assert device.uplink.tell_state(condition(), 1, 900.0)


def test_unacknowledged_events_go_again_and_acknowledged_ones_do_not(
    hub: Hub, device: Device
) -> None:
    for number in range(3):
        device.uplink.event(draft(number))
    assert device.uplink.pump(0.0) == 3
    assert device.uplink.pump(9.9) == 0
    eventually(lambda: seqs(hub) == [1, 2, 3])
    device.acknowledge(2)
    assert device.uplink.pump(10.0) == 2
    eventually(lambda: seqs(hub) == [1, 2, 3, 1, 3])
    device.acknowledge(1, 3, now_s=11.0)
    assert device.uplink.pump(1e6) == 0
    assert device.outbox.pending == 0


def test_the_same_draft_after_a_crash_is_one_event(device: Device) -> None:
    device.uplink.event(draft(1))
    device.uplink.event(draft(1))
    assert device.outbox.pending == 1


def test_what_is_under_way_is_bounded_and_the_rest_follows(hub: Hub, device: Device) -> None:
    for number in range(100):
        device.uplink.event(draft(number))
    assert device.uplink.pump(0.0) == 32
    eventually(lambda: len(seqs(hub)) == 32)
    device.acknowledge(*range(1, 11))
    assert device.uplink.pump(1.0) == 10
    now = itertools.count(2)
    while device.outbox.pending:
        eventually(lambda: bool(seqs(hub)))
        device.acknowledge(*seqs(hub))
        device.uplink.pump(float(next(now)))
    assert sorted(set(seqs(hub))) == list(range(1, 101))


def test_without_a_broker_everything_waits_in_order(broker: Mosquitto, device: Device) -> None:
    broker.kill()
    eventually(lambda: not device.link.connection.connected)
    for number in range(5):
        device.uplink.event(draft(number))
        assert device.uplink.pump(float(number)) == 0
    broker.start()
    assert device.link.connection.wait_connected(10)
    device.uplink.greet()
    assert device.uplink.pump(10.0) == 5


def test_a_row_that_was_given_up_frees_its_place(device: Device) -> None:
    device.uplink.event(draft(1))
    device.uplink.pump(0.0)
    device.outbox.acknowledge(BOOT, [1])  # as when the outbox dropped it for lack of room
    assert device.uplink.pump(100.0) == 0
    assert device.delivery.under_way() == frozenset()
