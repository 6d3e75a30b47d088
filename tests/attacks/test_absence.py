"""Who was away: a device for months, a hub that comes back a week younger, a broker's memory."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from agent.deployment.state import Stage
from contract.deployments import Cause
from contract.trust import DAY_MS, SNAPSHOT, TIMESTAMP
from tests.agent.deployment.releases import Released
from tests.attacks.scene import Scene
from tests.trust.ceremony import HOUR_MS


def days_pass(scene: Scene, days: int) -> None:
    """The hub signs every six hours, as it does."""
    for _ in range(4 * days):
        scene.world.now_ms += 6 * HOUR_MS
        scene.world.repository.sign_online(scene.world.now_ms)


def offline_keys_sign_again(scene: Scene) -> None:
    """Targets and the family, for another 90 days."""
    scene.world.init_keys("digits", "words", "plants")
    scene.world.import_trust()
    scene.world.publish("digits", "7")


@pytest.fixture
def away(scene: Scene) -> Scene:
    """The device was switched off for 120 days; everything that it knows has expired."""
    scene.power_off()
    scene.world.now_ms += 80 * DAY_MS
    offline_keys_sign_again(scene)
    days_pass(scene, 40)
    return scene


def test_a_device_that_was_off_for_120_days_serves_at_once(away: Scene, v1: Released) -> None:
    away.publish_index({})
    away.boot()
    assert away.serving() == v1.digest
    assert away.state().stage is Stage.COMMITTED


def test_it_takes_nothing_new_on_what_has_expired(away: Scene, v2: Released) -> None:
    away.boot()
    away.refuses(v2, Cause.STALE)


def test_it_comes_back_by_itself(away: Scene, v2: Released) -> None:
    away.boot()
    away.publish_trust()
    away.serve(v2)
    assert away.serving() == v2.digest


def test_it_comes_back_with_a_clock_at_1970(away: Scene, v2: Released) -> None:
    away.clock_ms = 0
    away.boot()
    away.publish_trust()
    away.serve(v2)
    assert away.guard.now_ms() > away.world.now_ms - DAY_MS


def test_a_hub_restored_from_a_week_old_backup(
    scene: Scene, v1: Released, v2: Released, tmp_path: Path
) -> None:
    """Its older numbers are refused; told how far devices are, it goes on above them."""
    tuf, backup = scene.world.repository.directory, tmp_path / "backup"
    shutil.copytree(tuf, backup)
    days_pass(scene, 7)
    scene.publish_trust()
    seen = dict(scene.guard.refresh().versions)

    shutil.rmtree(tuf)
    shutil.copytree(backup, tuf)
    scene.world.repository.sign_online(scene.world.now_ms)
    scene.publish_trust()
    scene.refuses(v2, Cause.ROLLBACK)

    told = {role: seen[role] for role in (SNAPSHOT, TIMESTAMP)}
    assert scene.world.repository.sign_online(scene.world.now_ms, told)
    scene.publish_trust()
    scene.serve(v2)
    assert scene.serving() == v2.digest


def test_a_device_that_lies_about_how_far_it_is(scene: Scene, v2: Released) -> None:
    """It cannot use up the numbers of the hub that believes it."""
    lie = {SNAPSHOT: 999_999_998, TIMESTAMP: 999_999_998}
    scene.world.repository.sign_online(scene.world.now_ms, lie)
    assert scene.world.repository.versions()[TIMESTAMP] < 1_000
    scene.publish_trust()
    scene.serve(v2)
