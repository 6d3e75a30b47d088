"""The broker loses its memory while no hub runs: the next hub finds out, and sends everything."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from contract.topics import Channel, blob_topic, tuf_index_topic, tuf_topic
from fleet.assembly import run_hub
from fleet.assignments import assign
from fleet.broker import BrokerChild, write_broker_files
from fleet.config import read_config
from fleet.releases import publish_bundle
from model.archive import open_bundle
from model.chunks import blobs_of
from tests.fleet.harness import (
    HubDirectory,
    connected,
    copy_hub,
    enrolled,
    make_template,
    until,
    wanted,
)


@pytest.fixture
def hub_directory(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> HubDirectory:
    template = tmp_path_factory.mktemp("hub-template")
    return copy_hub(template, tmp_path / "world", make_template(template).token)


@pytest.fixture
def broker(hub_directory: HubDirectory) -> Iterator[BrokerChild]:
    """The private Mosquitto as a unit of its own: it outlives the hub."""
    child = BrokerChild(write_broker_files(hub_directory.hub, read_config(hub_directory.hub)))
    child.start()
    yield child
    child.stop()


def test_a_broker_whose_memory_is_wiped_between_two_hubs(
    hub_directory: HubDirectory, broker: BrokerChild, tmp_path: Path
) -> None:
    bundle, epoch = hub_directory.signed("digits", "1"), hub_directory.hub / "run" / "epoch"
    with run_hub(hub_directory.hub, external_broker=True) as running:
        hub = running.services
        device = enrolled(hub, "cam-1")
        publish_bundle(hub, bundle, "operator")
        digest, _ = hub.repository.release("digits/1")
        with hub.storage.session() as session:
            assign(session, "cam-1", "digits", wanted("digits/1", digest), hub.clock())
        until(epoch.exists)
        before = epoch.read_text()
    killed = broker.pid
    assert killed is not None
    os.kill(killed, signal.SIGKILL)
    until(lambda: broker.pid not in (None, killed))

    with open_bundle(bundle) as opened:
        blobs = [blob_topic(digest) for digest, _ in blobs_of(opened)]
    with run_hub(hub_directory.hub, external_broker=True) as running:
        until(lambda: epoch.exists() and epoch.read_text() not in ("", before))
        with connected(running.services, device, tmp_path) as connection:
            topics = {
                device.topic(Channel.ASSIGNMENT),
                tuf_index_topic(),
                *map(tuf_topic, running.services.repository.files()),
                *blobs,
            }
            connection.subscribe(*topics)
            while topics:
                message = connection.next()
                assert message.payload
                topics.discard(message.topic)
