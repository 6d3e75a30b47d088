"""The hub and its broker: what is owed arrives, in order, also after either of them died."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from paho.mqtt.client import Client
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

from contract import messages as m
from contract.codec import decode, encode
from contract.envelope import key_id, open_sealed
from contract.errors import BadSignature
from contract.messages import Assignment, Command, Epoch, TufIndex, Verb
from contract.topics import (
    Channel,
    blob_topic,
    epoch_topic,
    tuf_index_topic,
    tuf_topic,
)
from converter.trust.custody import rotate_online
from fleet.assembly import RunningHub, run_hub
from fleet.assignments import assign, command
from fleet.broker import BrokerChild, write_broker_files
from fleet.config import read_config
from fleet.devices import remove_device
from fleet.errors import HubRunning
from fleet.ports import HubServices
from fleet.releases import publish_bundle
from fleet.storage.schema import Blob, Rejected, StoredEvent
from model.archive import open_bundle
from model.chunks import blobs_of
from model.chunks import unframe as unframed
from tests.fleet.harness import (
    BOOT,
    Connection,
    Device,
    HubDirectory,
    connected,
    enrolled,
    until,
    wanted,
)
from tests.trust.ceremony import PASSPHRASE


def assign_release(hub: HubServices, device: str, target: str = "digits/1") -> int:
    digest, _ = hub.repository.release(target)
    with hub.storage.session() as session:
        seq = assign(session, device, "digits", wanted(target, digest), hub.clock())
    hub.link.wake()
    return seq


def opened(hub: HubServices, payload: bytes) -> Assignment:
    key = hub.repository.assignment_key().public_key()
    found = open_sealed((Assignment,), payload, {key_id(key): key})
    assert isinstance(found, Assignment)
    return found


def collect(connection: Connection, count: int) -> dict[str, bytes]:
    found: dict[str, bytes] = {}
    while len(found) < count:
        message = connection.next()
        found[message.topic] = bytes(message.payload)
    return found


def published_epoch(hub: HubServices) -> str | None:
    path = hub.directory / "run" / "epoch"
    return path.read_text().strip() if path.exists() else None


def test_events_come_back_acknowledged(running: RunningHub, tmp_path: Path) -> None:
    hub = running.services
    cam = enrolled(hub, "cam-1")
    with connected(hub, cam, tmp_path) as connection:
        connection.subscribe(cam.topic(Channel.ACK))
        connection.say(Channel.EVENT, cam.event(1))

        assert connection.acked() == {BOOT: {1}}

    with hub.storage.reading() as session:
        assert session.query(StoredEvent).count() == 1


def test_messages_sent_again_after_a_hub_restart_are_stored_once(
    hub_directory: HubDirectory, tmp_path: Path
) -> None:
    with hub_directory.at_rest() as hub:
        cam = enrolled(hub, "cam-1")
    for _ in range(2):
        with (
            run_hub(hub_directory.hub) as running,
            connected(running.services, cam, tmp_path) as connection,
        ):
            connection.subscribe(cam.topic(Channel.ACK))
            until((hub_directory.hub / "run" / "epoch").exists)
            received: set[int] = set()
            for seq in range(1, 20):
                connection.say(Channel.EVENT, cam.event(seq))
            while received != set(range(1, 20)):
                received |= connection.acked()[BOOT]

    with hub_directory.at_rest() as hub, hub.storage.reading() as session:
        stored = [row.seq for row in session.query(StoredEvent)]
    assert sorted(stored) == list(range(1, 20))


def test_a_hub_that_fell_behind_signs_above_what_a_device_reports(
    running: RunningHub, tmp_path: Path
) -> None:
    hub = running.services
    cam = enrolled(hub, "cam-1")
    with connected(hub, cam, tmp_path) as connection:
        connection.say(Channel.STATE, cam.state(tuf_versions={"timestamp": 50, "snapshot": 50}))

        def above() -> bool:
            hub.link.wake()
            return hub.repository.versions()["timestamp"] == 51

        until(above)


def test_new_online_keys_seal_every_assignment_again(
    running: RunningHub, hub_directory: HubDirectory, tmp_path: Path
) -> None:
    hub = running.services
    publish_bundle(hub, hub_directory.signed("digits", "1"), "operator")
    cam = enrolled(hub, "cam-1")
    seq = assign_release(hub, "cam-1")
    with connected(hub, cam, tmp_path) as connection:
        connection.subscribe(cam.topic(Channel.ASSIGNMENT))
        before = bytes(connection.next().payload)
        keys = hub.repository.stage_online_keys()
        rotate_online(hub_directory.path / "keys", keys, lambda: PASSPHRASE, hub.clock())
        assert opened(hub, before).seq == seq

        trust = hub_directory.path / "keys" / "trust.json"
        hub.repository.import_trust(trust.read_bytes())
        hub.link.wake()

        assert opened(hub, bytes(connection.next().payload)).seq == seq
    with pytest.raises(BadSignature):
        opened(hub, before)


def test_nonsense_on_a_devices_topic_is_counted_and_hurts_nobody(
    running: RunningHub, tmp_path: Path
) -> None:
    hub = running.services
    cam = enrolled(hub, "cam-1")
    with connected(hub, cam, tmp_path) as connection:
        connection.subscribe(cam.topic(Channel.ACK))
        connection.say(Channel.EVENT, b"\x00nonsense")
        connection.say(Channel.EVENT, Device("cam-1").event(9))
        connection.say(Channel.EVENT, cam.event(1))

        assert connection.acked() == {BOOT: {1}}

    with hub.storage.reading() as session:
        found = {(row.channel, row.error) for row in session.query(Rejected)}
    assert found == {("up/event", "MalformedMessage"), ("up/event", "BadSignature")}


def test_a_device_receives_its_signed_assignment(
    running: RunningHub, hub_directory: HubDirectory, tmp_path: Path
) -> None:
    hub = running.services
    publish_bundle(hub, hub_directory.signed("digits", "1"), "operator")
    cam = enrolled(hub, "cam-1")
    seq = assign_release(hub, "cam-1")

    with connected(hub, cam, tmp_path) as connection:
        connection.subscribe(cam.topic(Channel.ASSIGNMENT))
        message = connection.next()

    found = opened(hub, bytes(message.payload))
    assert (found.device, found.seq) == ("cam-1", seq)
    assert found.families["digits"].target == "digits/1"


def test_when_the_assignment_arrives_all_that_it_needs_is_there(
    running: RunningHub, hub_directory: HubDirectory, tmp_path: Path
) -> None:
    hub = running.services
    cam = enrolled(hub, "cam-1")
    bundle_path = hub_directory.signed("digits", "1", os.urandom(300_000))
    with connected(hub, cam, tmp_path) as connection:
        connection.subscribe(cam.topic(Channel.ASSIGNMENT))
        publish_bundle(hub, bundle_path, "operator")
        assign_release(hub, "cam-1")
        assert connection.next().topic == cam.topic(Channel.ASSIGNMENT)

        connection.subscribe(tuf_index_topic())
        index = decode(TufIndex, bytes(connection.next().payload))
        connection.subscribe(*map(tuf_topic, index.files))
        files = collect(connection, len(index.files))
        with open_bundle(bundle_path) as bundle:
            blobs = dict(blobs_of(bundle))
        connection.subscribe(*map(blob_topic, blobs))
        payloads = collect(connection, len(blobs))

    assert {len(files[tuf_topic(n)]) == f.length for n, f in index.files.items()} == {True}
    assert any(name.endswith(".digits.json") for name in index.files)
    for digest, data in blobs.items():
        assert unframed(payloads[blob_topic(digest)], len(data), digest) == data


def test_blobs_of_a_release_that_nobody_is_assigned_stay_at_the_hub(
    running: RunningHub, hub_directory: HubDirectory, tmp_path: Path
) -> None:
    hub = running.services
    cam = enrolled(hub, "cam-1")
    publish_bundle(hub, hub_directory.signed("digits", "1"), "operator")
    publish_bundle(hub, hub_directory.signed("digits", "2", b"two" * 9_000), "operator")
    assign_release(hub, "cam-1", "digits/1")
    with connected(hub, cam, tmp_path) as connection:
        connection.subscribe(cam.topic(Channel.ASSIGNMENT))
        connection.next()

    with open_bundle(hub_directory.path / "digits-2.bundle") as bundle:
        own = next(digest for digest, _ in blobs_of(bundle))
    with hub.storage.reading() as session:
        assert session.get_one(Blob, ("digits/2", own)).published_epoch is None


def test_a_killed_broker_comes_back_with_everything(
    running: RunningHub, hub_directory: HubDirectory, tmp_path: Path
) -> None:
    hub = running.services
    cam = enrolled(hub, "cam-1")
    bundle_path = hub_directory.signed("digits", "1")
    publish_bundle(hub, bundle_path, "operator")
    seq = assign_release(hub, "cam-1")
    before = published_epoch(hub)
    assert running.broker is not None
    pid = running.broker.pid
    assert pid is not None

    os.kill(pid, signal.SIGKILL)
    until(lambda: published_epoch(hub) not in (None, before))

    with open_bundle(bundle_path) as bundle:
        digests = [digest for digest, _ in blobs_of(bundle)]
    with connected(hub, cam, tmp_path) as connection:
        topics = [cam.topic(Channel.ASSIGNMENT), tuf_index_topic(), epoch_topic()]
        connection.subscribe(*topics, *map(blob_topic, digests))
        found = collect(connection, len(topics) + len(digests))

    assert opened(hub, found[cam.topic(Channel.ASSIGNMENT)]).seq == seq
    epoch = decode(Epoch, found[epoch_topic()])
    assert (epoch.hub, epoch.epoch) == ("hub", published_epoch(hub))
    assert all(found[blob_topic(digest)] for digest in digests)


def test_a_foreign_epoch_makes_the_hub_send_everything_again(
    running: RunningHub, hub_directory: HubDirectory, tmp_path: Path
) -> None:
    hub = running.services
    before = published_epoch(hub)
    foreign = Epoch(hub="other", epoch="0" * 32, at_ms=0)
    # Another hub on the same broker has the same name there, so it also cuts the first one off.
    client = Client(CallbackAPIVersion.VERSION2, "hub", protocol=MQTTProtocolVersion.MQTTv5)
    ca = hub.directory / "ca"
    client.tls_set(str(ca / "root.crt"), str(ca / "hub.crt"), str(ca / "hub.key"))
    client.connect(hub.config.broker_host, hub.config.broker_port)
    client.loop_start()
    client.publish(epoch_topic(), encode(foreign), qos=1, retain=True).wait_for_publish(5)
    client.disconnect()
    client.loop_stop()

    until(lambda: published_epoch(hub) not in (None, before))


def test_a_hub_that_restarts_under_the_same_broker_keeps_the_epoch(
    hub_directory: HubDirectory,
) -> None:
    broker = BrokerChild(write_broker_files(hub_directory.hub, read_config(hub_directory.hub)))
    broker.start()
    epochs = []
    try:
        for _ in range(2):
            with run_hub(hub_directory.hub, external_broker=True) as running:
                until(lambda: running.services.link.status().epoch)
                until((hub_directory.hub / "run" / "epoch").exists)
                epochs.append(running.services.link.status().epoch)
    finally:
        broker.stop()

    assert epochs[0] == epochs[1] == (hub_directory.hub / "run" / "epoch").read_text().strip()


def test_a_want_is_answered_for_what_the_device_is_assigned_only(
    running: RunningHub, hub_directory: HubDirectory, tmp_path: Path
) -> None:
    hub = running.services
    cam, other = enrolled(hub, "cam-1"), enrolled(hub, "cam-2")
    publish_bundle(hub, hub_directory.signed("digits", "1"), "operator")
    assign_release(hub, "cam-1")
    with open_bundle(hub_directory.path / "digits-1.bundle") as bundle:
        digests = sorted(digest for digest, _ in blobs_of(bundle))
    with connected(hub, cam, tmp_path) as allowed, connected(hub, other, tmp_path) as stranger:
        allowed.subscribe(cam.topic(Channel.ASSIGNMENT), *map(blob_topic, digests))
        collect(allowed, 1 + len(digests))

        stranger.say(
            Channel.WANT, encode(m.Want(device="cam-2", target="digits/1", blobs=digests[:1]))
        )
        allowed.say(
            Channel.WANT, encode(m.Want(device="cam-1", target="digits/1", blobs=digests[1:]))
        )
        answered = collect(allowed, len(digests) - 1)

    assert set(answered) == {blob_topic(digest) for digest in digests[1:]}


def test_a_command_goes_out_once_signed(running: RunningHub, tmp_path: Path) -> None:
    hub = running.services
    cam = enrolled(hub, "cam-1")
    with connected(hub, cam, tmp_path) as connection:
        connection.subscribe(cam.topic(Channel.COMMAND))
        with hub.storage.session() as session:
            sent = command(session, "cam-1", Verb.RELEASE_HOLD, "digits", hub.clock()).id
        hub.link.wake()

        message = connection.next()

    key = hub.repository.assignment_key().public_key()
    found = open_sealed((Command,), bytes(message.payload), {key_id(key): key})
    assert isinstance(found, Command)
    assert (found.id, found.verb, message.retain) == (sent, Verb.RELEASE_HOLD, False)


def test_the_topics_of_a_removed_device_are_cleared(
    running: RunningHub, hub_directory: HubDirectory, tmp_path: Path
) -> None:
    hub = running.services
    cam = enrolled(hub, "cam-1")
    publish_bundle(hub, hub_directory.signed("digits", "1"), "operator")
    assign_release(hub, "cam-1")
    with connected(hub, cam, tmp_path) as connection:
        connection.subscribe(cam.topic(Channel.ASSIGNMENT))
        assert connection.next().payload

        remove_device(hub, "cam-1")

        message = connection.next()
        assert (message.topic, message.payload) == (cam.topic(Channel.ASSIGNMENT), b"")


def test_a_removed_device_is_no_longer_acknowledged(running: RunningHub, tmp_path: Path) -> None:
    hub = running.services
    cam, other = enrolled(hub, "cam-1"), enrolled(hub, "cam-2")
    with connected(hub, cam, tmp_path) as connection, connected(hub, other, tmp_path) as second:
        connection.subscribe(cam.topic(Channel.ACK))
        second.subscribe(other.topic(Channel.ACK))
        remove_device(hub, "cam-1")
        connection.say(Channel.EVENT, cam.event(1))
        second.say(Channel.EVENT, other.event(1))

        assert second.acked() == {BOOT: {1}}
        assert connection.inbox.empty()


def test_a_second_hub_in_the_same_directory_is_refused(
    running: RunningHub, hub_directory: HubDirectory
) -> None:
    with pytest.raises(HubRunning), run_hub(hub_directory.hub):
        pass


def test_the_threads_are_healthy_and_end_with_the_hub(hub_directory: HubDirectory) -> None:
    with run_hub(hub_directory.hub) as running:
        assert all(worker.healthy(60) for worker in running.workers)

    assert not any(worker.healthy(60) for worker in running.workers)
