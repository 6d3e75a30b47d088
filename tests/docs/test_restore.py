"""What docs/operations.md says of a hub that was restored from a backup, tried out."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from agent.errors import RollbackDetected
from contract.trust import SNAPSHOT, TIMESTAMP
from tests.trust.ceremony import HOUR_MS, Device, World, new_world

SEEN = 4


@pytest.fixture
def world(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> World:
    return new_world(tmp_path / "world", lambda: tmp_path_factory.mktemp("template"))


def test_a_restored_hub_goes_on_above_what_devices_have_seen(world: World, tmp_path: Path) -> None:
    device = Device(world, tmp_path / "tuf")
    world.publish("digits", "1")
    tuf, backup = world.repository.directory, tmp_path / "backup"
    shutil.copytree(tuf, backup)
    for _ in range(SEEN):
        world.now_ms += 6 * HOUR_MS
        world.repository.sign_online(world.now_ms)
    seen = device.guard.refresh().versions[SNAPSHOT]

    shutil.rmtree(tuf)
    shutil.copytree(backup, tuf)
    world.now_ms += HOUR_MS
    world.repository.sign_online(world.now_ms)
    with pytest.raises(RollbackDetected):
        device.guard.refresh()

    # As the page says, nothing is to be done: the device's next State tells how far it was.
    world.repository.sign_online(world.now_ms, {SNAPSHOT: seen, TIMESTAMP: seen})
    assert device.guard.refresh().versions[SNAPSHOT] == seen + 1
