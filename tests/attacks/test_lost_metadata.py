"""The device's own metadata is wiped, emptied or torn while it is off, and the broker holds what is
older: it serves from its journal, falls for nothing, and fetches again what is genuine."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from contract.deployments import Cause
from tests.agent.deployment.releases import Released
from tests.agent.trust.offers import resign
from tests.attacks.scene import Scene

Loss = Callable[[Path], object]


def lose(scene: Scene, loss: Loss, *kept: str) -> None:
    """Power goes, and takes all metadata along but what is `kept`."""
    directory = scene.state_dir / "tuf"
    serving, answers = scene.serving(), scene.answers()
    scene.power_off()
    lost = [path for path in directory.rglob("*") if path.is_file() and path.name not in kept]
    assert len(lost) > 5
    for path in lost:
        loss(path)
    scene.boot()
    assert (scene.serving(), scene.answers()) == (serving, answers)


def tear(path: Path) -> None:
    """Its first half came through."""
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])


def falls_for_nothing(scene: Scene, v2: Released, loss: Loss) -> None:
    old = scene.world.repository.files()
    resign(scene.world)
    scene.publish_trust()
    scene.guard.refresh()
    lose(scene, loss, "anchor.json")

    scene.publish_trust(old)
    scene.refuses(v2, Cause.ROLLBACK)
    scene.publish_trust()
    scene.serve(v2)


def test_wiped_local_metadata(scene: Scene, v2: Released) -> None:
    falls_for_nothing(scene, v2, Path.unlink)


def test_zero_length_local_metadata(scene: Scene, v2: Released) -> None:
    falls_for_nothing(scene, v2, lambda path: path.write_bytes(b""))


def test_torn_local_metadata(scene: Scene, v2: Released) -> None:
    falls_for_nothing(scene, v2, tear)


@pytest.mark.parametrize(
    "loss", [Path.unlink, lambda path: path.write_bytes(b""), tear], ids=["wiped", "empty", "torn"]
)
def test_a_lost_anchor_is_no_way_to_another_root(scene: Scene, v2: Released, loss: Loss) -> None:
    """Nothing is trusted on first use: it serves on until an operator enrols it again."""
    lose(scene, loss)
    assert "enrol this device" in scene.refuses(v2, Cause.UNTRUSTED).detail


@pytest.mark.parametrize("damage", [None, b"", b'{"signed":'], ids=["wiped", "empty", "torn"])
def test_an_older_timestamp_once_local_metadata_is_lost(
    scene: Scene, v2: Released, damage: bytes | None
) -> None:
    """Under a process that goes on, with its roots."""
    old = scene.world.repository.files()
    resign(scene.world)
    scene.publish_trust()
    scene.guard.refresh()
    for path in (scene.state_dir / "tuf").glob("*.json"):
        if path.name not in ("anchor.json", "root.json"):
            path.unlink() if damage is None else path.write_bytes(damage)

    scene.publish_trust(old)
    scene.refuses(v2, Cause.ROLLBACK)
