"""A fresh world a test, and devices in it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.trust.ceremony import Device, World, new_world


@pytest.fixture
def world(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> World:
    return new_world(tmp_path / "world", lambda: tmp_path_factory.mktemp("template"))


@pytest.fixture
def device(world: World, tmp_path: Path) -> Device:
    """Has seen release 1 of digits."""
    found = Device(world, tmp_path / "tuf")
    world.publish("digits", "1")
    found.guard.refresh(["digits/1"])
    return found
