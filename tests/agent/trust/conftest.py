"""A fresh world a test: hub, keys folder, published trust."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.trust.ceremony import Device, World, new_world


@pytest.fixture
def world(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> World:
    return new_world(tmp_path / "world", lambda: tmp_path_factory.mktemp("template"))


@pytest.fixture
def device(world: World, tmp_path: Path) -> Device:
    return Device(world, tmp_path / "tuf")


@pytest.fixture
def seen(world: World, device: Device) -> Device:
    """A device that knows release 1, on version 2 of the timestamp."""
    world.publish("digits", "1")
    device.guard.refresh(["digits/1"])
    return device
