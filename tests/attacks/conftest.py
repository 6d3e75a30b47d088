"""A scene a test: v1 serves and has proven itself, v2 is published and may be assigned."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.link.fetch_plan import Patience
from tests.agent.deployment.releases import Released
from tests.agent.wire import DEVICE, Hub, Link
from tests.attacks.bundles import new_release
from tests.attacks.scene import Scene
from tests.mosquitto import Authority, Mosquitto
from tests.trust.ceremony import new_world

IMPATIENT = Patience(ask_s=0.3, cold_ask_s=0.1, want_again_s=0.2, want_limit_s=0.5)


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("ca"))


@pytest.fixture(scope="session")
def v1(tmp_path_factory: pytest.TempPathFactory) -> Released:
    return new_release(tmp_path_factory.mktemp("v1"), "1")


@pytest.fixture(scope="session")
def v2(tmp_path_factory: pytest.TempPathFactory) -> Released:
    return new_release(tmp_path_factory.mktemp("v2"), "2")


@pytest.fixture
def broker(tmp_path: Path, authority: Authority) -> Iterator[Mosquitto]:
    broker = Mosquitto(tmp_path / "broker", authority)
    broker.start()
    yield broker
    broker.stop()


@pytest.fixture
def hub(broker: Mosquitto, authority: Authority) -> Iterator[Hub]:
    hub = Hub(broker, authority.client("hub"))
    yield hub
    hub.close()


@pytest.fixture
def link(broker: Mosquitto, authority: Authority) -> Iterator[Link]:
    link = Link(broker, authority.client(DEVICE)).up()
    link.blobs._patience = IMPATIENT
    yield link
    link.connection.stop()


@pytest.fixture
def memory(tmp_path: Path) -> Iterator[Path]:
    """A folder that costs nothing to sync, where there is one: a scene syncs a hundred times, and
    what a disk then keeps is the question of test_power_cut.py alone."""
    if not os.access("/dev/shm", os.W_OK):
        yield tmp_path
        return
    with tempfile.TemporaryDirectory(dir="/dev/shm", prefix="attacks-") as directory:
        yield Path(directory)


@pytest.fixture
def scene(
    memory: Path,
    tmp_path_factory: pytest.TempPathFactory,
    hub: Hub,
    link: Link,
    v1: Released,
    v2: Released,
) -> Iterator[Scene]:
    """A device that serves v1, while v2 waits at the broker."""
    world = new_world(memory / "world", lambda: tmp_path_factory.mktemp("template"))
    scene = Scene(memory, world, hub, link)
    scene.publish(v1)
    scene.serve(v1)
    scene.publish(v2)
    yield scene
    scene.power_off()
