"""A broker, a device's link to it, and a hub, each new for every test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.agent.wire import DEVICE, Hub, Link
from tests.mosquitto import Authority, Credentials, Mosquitto


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("ca"))


@pytest.fixture(scope="session")
def device(authority: Authority) -> Credentials:
    return authority.client(DEVICE)


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
def link(broker: Mosquitto, device: Credentials) -> Iterator[Link]:
    link = Link(broker, device).up()
    yield link
    link.connection.stop()
