"""Power goes at any point of an update, on a real file system that loses what was not synced.

What a part said to be durable is there after the next mount, and the device comes right: it boots
into a whole release, and the update reaches its end. tests/agent/deployment/test_power_cuts.py cuts
at the same points without losing what the kernel still holds.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.deployment.state import Stage
from agent.journal import Journal
from agent.outbox import Kind, Outbox
from agent.store.durable import write_durably
from tests.agent.deployment.device import FAMILY, Device
from tests.agent.deployment.releases import Released
from tests.agent.deployment.simulators import SimulatedHub
from tests.agent.deployment.test_power_cuts import (
    POWER_CUT,
    in_a_process,
    require_whole,
    update,
)
from tests.attacks.disks import SmallDisk


@pytest.fixture
def disk(memory: Path) -> Iterator[SmallDisk]:
    disk = SmallDisk(memory)
    disk.mount()
    yield disk
    disk.close()


@pytest.fixture
def releases(v1: Released, v2: Released) -> SimulatedHub:
    hub = SimulatedHub()
    for counter, released in enumerate((v1, v2), start=1):
        hub.publish(released, counter)
    return hub


def lose_power(disk: SmallDisk) -> None:
    """And boot again."""
    disk.cut()
    disk.unmount()
    disk.mount()


def test_the_disk_of_this_test_loses_what_was_not_synced(disk: SmallDisk) -> None:
    write_durably(disk.path / "synced", b"kept")
    (disk.path / "not-synced").write_bytes(b"lost")
    lose_power(disk)
    assert (disk.path / "synced").read_bytes() == b"kept"
    assert not (disk.path / "not-synced").exists()


def test_what_the_journal_and_the_outbox_took_is_there(disk: SmallDisk) -> None:
    journal, outbox = Journal(disk.path / "journal.sqlite"), Outbox(disk.path / "outbox.sqlite")
    for number in range(1, 20):
        journal.save_trust(number, {"timestamp": number}, {FAMILY: number})
        outbox.append("0" * 32, Kind.EVENT, "topic", lambda seq: b"row %d" % seq)
    disk.cut()
    for database in (journal, outbox):
        with contextlib.suppress(sqlite3.Error):
            database.close()
    disk.unmount()
    disk.mount()

    journal, outbox = Journal(disk.path / "journal.sqlite"), Outbox(disk.path / "outbox.sqlite")
    assert journal.trust_floor_ms() == 19
    assert journal.trust_versions() == {"timestamp": 19}
    assert journal.min_counter(FAMILY) == 19
    assert outbox.pending == 19
    journal.close()
    outbox.close()


def test_an_update_survives_a_power_cut_at_every_point(
    disk: SmallDisk, releases: SimulatedHub, v1: Released, v2: Released, tmp_path: Path
) -> None:
    prepare(disk, releases, v1)
    before, saved = tmp_path / "before.img", tmp_path / "saved"
    disk.unmount()
    before.write_bytes(disk.image.read_bytes())
    disk.mount()
    points = points_of(disk, releases, v1, v2)
    assert len(points) > 25, points
    for cut in range(1, len(points) + 1):
        where = f"cut {cut} at {points[cut - 1]}"
        disk.unmount()
        disk.copy_from(before)
        disk.mount()
        run_until(disk, releases, v1, v2, cut, saved)

        require_whole(disk.path, {v1.digest, v2.digest}, where)
        assert journalled(disk) == saved.read_bytes(), where
        finish(disk, releases, v1, v2, where)


def prepare(disk: SmallDisk, hub: SimulatedHub, v1: Released) -> None:
    device = Device(disk.path, hub)
    device.serve(v1, seq=1)
    device.settle()
    device.journal.close()


def points_of(disk: SmallDisk, hub: SimulatedHub, v1: Released, v2: Released) -> list[str]:
    points: list[str] = []
    device = Device(disk.path, hub, points.append)
    update(device, v1, v2)
    device.journal.close()
    return points


def run_until(
    disk: SmallDisk, hub: SimulatedHub, v1: Released, v2: Released, cut: int, saved: Path
) -> None:
    """Run in a process of its own, and lose power at the `cut`-th point; `saved` is on another
    disk and gets what the journal said to hold at that moment."""
    passed = 0

    def checkpoint(name: str) -> None:
        nonlocal passed
        passed += 1
        if passed == cut:
            saved.write_bytes(journalled(disk))
            disk.cut()
            os._exit(POWER_CUT)

    assert in_a_process(lambda: update(Device(disk.path, hub, checkpoint), v1, v2)) == POWER_CUT
    disk.unmount()
    disk.mount()


def journalled(disk: SmallDisk) -> bytes:
    """The family's row, by another connection."""
    journal = Journal(disk.path / "journal.sqlite")
    try:
        return journal.deployments().get(FAMILY, b"")
    finally:
        journal.close()


def finish(disk: SmallDisk, hub: SimulatedHub, v1: Released, v2: Released, where: str) -> None:
    """The next life ends what this one began."""
    device = Device(disk.path, hub)
    require_whole(disk.path, {v1.digest, v2.digest}, where)
    for _ in range(4):
        update(device, v1, v2)
        if device.state().seq == 2 and device.state().stage is Stage.COMMITTED:
            break
    assert device.model.digest == v2.digest, where
    device.journal.close()
