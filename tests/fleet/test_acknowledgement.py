"""An acknowledgement means: committed. Shown with hubs that are killed at the worst moments."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from contract.topics import Channel
from fleet.assembly import run_hub
from fleet.broker import BrokerChild, write_broker_files
from fleet.config import read_config
from fleet.storage.schema import StoredEvent
from tests.fleet.harness import BOOT, Connection, HubDirectory, connected, enrolled, until

ROOM = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def broker(hub_directory: HubDirectory) -> Iterator[None]:
    """A broker that outlives the hub, as in production."""
    child = BrokerChild(write_broker_files(hub_directory.hub, read_config(hub_directory.hub)))
    child.start()
    yield
    child.stop()


def stored(hub_directory: HubDirectory) -> list[int]:
    with hub_directory.at_rest() as hub, hub.storage.reading() as session:
        return [row.seq for row in session.query(StoredEvent)]


@pytest.mark.parametrize(("moment", "left"), [("commit", []), ("ack", [1])])
def test_a_hub_killed_at_the_worst_moment_acks_nothing_and_stores_each_event_once(
    hub_directory: HubDirectory, tmp_path: Path, moment: str, left: list[int]
) -> None:
    with hub_directory.at_rest() as hub:
        cam = enrolled(hub, "cam-1")
        with connected(hub, cam, tmp_path) as device:
            device.subscribe(cam.topic(Channel.ACK))
            program = [sys.executable, "-m", "tests.fleet.dying_hub", str(hub_directory.hub)]
            with subprocess.Popen(
                [*program, moment], cwd=ROOM, stdout=subprocess.PIPE, text=True
            ) as dying:
                assert dying.stdout is not None
                assert dying.stdout.readline() == "armed\n"
                _say_until_dead(dying, device, cam.event(1))
            assert device.inbox.empty()
            assert stored(hub_directory) == left

            with run_hub(hub_directory.hub, external_broker=True) as running:
                until(lambda: running.services.link.status().epoch)
                acked: set[int] = set()
                for seq in (1, 2):
                    device.say(Channel.EVENT, cam.event(seq))
                while acked != {1, 2}:
                    acked |= device.acked()[BOOT]

    assert stored(hub_directory) == [1, 2]


def _say_until_dead(dying: subprocess.Popen[str], device: Connection, payload: bytes) -> None:
    """The hub may not have subscribed yet when it is armed, so the event is sent again."""
    for _ in range(100):
        device.say(Channel.EVENT, payload)
        try:
            dying.wait(0.1)
        except subprocess.TimeoutExpired:
            continue
        return
    raise AssertionError("the hub did not die")
