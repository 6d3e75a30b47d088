"""A disk that is full, from each step of an update on: nothing that serves is lost, and the update
goes through once there is room.

The margin that a fetch asks for beforehand is taken away, so that the disk is really hit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from agent.deployment.state import Stage
from agent.errors import DiskFull
from agent.journal import Journal, JournalUnreachable
from agent.outbox import Kind, Outbox
from agent.store import space
from contract.deployments import Cause
from tests.agent.deployment.releases import Released
from tests.agent.trust.offers import resign
from tests.agent.wire import Hub, Link
from tests.attacks.disks import SmallDisk
from tests.attacks.scene import Scene
from tests.trust.ceremony import new_world

STEPS = [
    "journal:before",
    "journal:after",
    "draft:emitted",
    "effect:Fetch",
    "fetch:admitted",
    "fetch:manifest",
    "fetch:lists",
    "fetch:chunk",
    "done:Fetch",
    "effect:Verify",
    "install:checked",
    "install:renamed",
    "done:Verify",
    "effect:Admit",
    "done:Admit",
    "effect:Try",
    "done:Try",
    "effect:Activate",
    "activate:loaded",
    "activate:written",
    "activate:switched",
    "done:Activate",
    "effect:Watch",
]
"""Every kind of point that an update passes until it is on probation, in order."""


@pytest.fixture
def disk(memory: Path) -> Iterator[SmallDisk]:
    disk = SmallDisk(memory)
    disk.mount()
    yield disk
    disk.close()


@pytest.fixture
def scene(
    disk: SmallDisk,
    memory: Path,
    tmp_path_factory: pytest.TempPathFactory,
    hub: Hub,
    link: Link,
    v1: Released,
    v2: Released,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Scene]:
    """As the other tests', on a disk of its own."""
    monkeypatch.setattr(space, "MARGIN_BYTES", 0)
    world = new_world(memory / "world", lambda: tmp_path_factory.mktemp("template"))
    scene = Scene(disk.path, world, hub, link)
    scene.publish(v1)
    scene.serve(v1)
    scene.publish(v2)
    yield scene
    disk.free()
    scene.power_off()


def fill_at(scene: Scene, disk: SmallDisk, step: str) -> None:
    """The disk is full from the first time on that this step is reached."""

    def checkpoint(name: str) -> None:
        if name == step:
            scene.checkpoint = lambda name: None
            disk.fill()

    scene.checkpoint = checkpoint


def look_again(scene: Scene) -> None:
    for _ in range(3):
        scene.mono_ms += 1_000
        scene.tick()


def test_these_are_the_steps_of_an_update(scene: Scene, v2: Released) -> None:
    passed: list[str] = []
    scene.checkpoint = passed.append
    scene.assign(v2)
    assert list(dict.fromkeys(passed)) == STEPS


@pytest.mark.parametrize("step", STEPS)
def test_a_disk_that_is_full_from_this_step_on(
    scene: Scene, disk: SmallDisk, v1: Released, v2: Released, step: str
) -> None:
    before = scene.answers()
    fill_at(scene, disk, step)
    scene.assign(v2)
    look_again(scene)
    assert scene.serving() in (v1.digest, v2.digest)
    if scene.serving() == v1.digest:
        assert scene.answers() == before
    assert {e.cause for e in scene.events[-4:]} <= {None, Cause.DISK_FULL}

    disk.free()
    look_again(scene)
    if scene.state().stage in (Stage.FAILED, Stage.ROLLED_BACK):
        assert scene.told() is Cause.DISK_FULL
        scene.assign(v2)
    scene.finish()
    assert scene.serving() == v2.digest
    assert scene.answers() != before


def test_a_disk_that_is_full_while_metadata_is_refreshed(
    scene: Scene, disk: SmallDisk, v2: Released
) -> None:
    resign(scene.world)
    scene.publish_trust()
    before = scene.guard.cached_view()
    versions = scene.journal.trust_versions()
    disk.fill()
    with pytest.raises(DiskFull):
        scene.guard.refresh()
    assert scene.guard.cached_view() is not None
    assert scene.guard.cached_view() == before
    assert scene.journal.trust_versions() == versions

    disk.free()
    assert scene.guard.refresh().versions["timestamp"] == versions["timestamp"] + 2


def test_a_device_that_boots_with_a_full_disk(scene: Scene, disk: SmallDisk, v1: Released) -> None:
    """It serves; whoever asks the journal to open hears that this may pass."""
    before = scene.answers()
    scene.power_off()
    disk.fill()
    try:
        scene.boot()
    except JournalUnreachable:
        assert scene.answers() == before
        disk.free()
        scene.server.stop()
        scene.boot()
    assert scene.answers() == before
    assert scene.state().stage is Stage.COMMITTED


def test_journal_and_outbox_name_a_full_disk_and_lose_nothing(disk: SmallDisk) -> None:
    journal, outbox = Journal(disk.path / "journal.sqlite"), Outbox(disk.path / "outbox.sqlite")
    journal.save_trust(1, {"root": 1}, {"digits": 1})
    outbox.append("0" * 32, Kind.EVENT, "topic", lambda seq: b"kept")
    disk.fill()
    with pytest.raises(DiskFull):
        until_full(lambda n: journal.save_trust(n, {"root": n}, {"digits": n}))
    with pytest.raises(DiskFull):
        until_full(lambda n: outbox.append("0" * 32, Kind.EVENT, "topic", lambda seq: b"x" * 1000))
    held, rows = journal.trust_floor_ms(), outbox.pending
    assert outbox.oldest(1)[0].payload == b"kept"

    disk.free()
    journal.save_trust(held + 1, {"root": held + 1}, {})
    outbox.append("0" * 32, Kind.EVENT, "topic", lambda seq: b"again")
    assert journal.trust_versions() == {"root": held + 1}
    assert outbox.pending == rows + 1
    journal.close()
    outbox.close()


def until_full(write: Callable[[int], object]) -> None:
    """A database takes what fits into the blocks that it has."""
    for number in range(2, 500):
        write(number)
