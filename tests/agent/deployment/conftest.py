"""Releases that all tests of this room share; made once, since they never change."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.agent.deployment.device import Device
from tests.agent.deployment.releases import Released, make_release
from tests.agent.deployment.simulators import SimulatedHub


@pytest.fixture(scope="session")
def v1(tmp_path_factory: pytest.TempPathFactory) -> Released:
    return make_release(tmp_path_factory.mktemp("v1"), "1")


@pytest.fixture(scope="session")
def v2(tmp_path_factory: pytest.TempPathFactory) -> Released:
    return make_release(tmp_path_factory.mktemp("v2"), "2")


@pytest.fixture(scope="session")
def v3(tmp_path_factory: pytest.TempPathFactory) -> Released:
    return make_release(tmp_path_factory.mktemp("v3"), "3")


@pytest.fixture
def hub(v1: Released, v2: Released, v3: Released) -> SimulatedHub:
    hub = SimulatedHub()
    for counter, released in enumerate((v1, v2, v3), start=1):
        hub.publish(released, counter)
    return hub


@pytest.fixture
def device(tmp_path: Path, hub: SimulatedHub) -> Device:
    return Device(tmp_path, hub)
