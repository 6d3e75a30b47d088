"""A thief of all online keys runs ahead; offline keys take the fleet back; inference never stops.

Broker, link, guard, journal and deployment are real, the keys rotate as docs/runbook-keys.md says,
and every order comes over the broker.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.errors import Untrusted
from contract.deployments import Cause
from contract.envelope import seal
from contract.topics import Channel
from contract.trust import MAX_VERSION
from tests.agent.deployment.releases import Released
from tests.attacks.plane import Asking
from tests.attacks.scene import QUESTIONS, Scene
from tests.trust.break_in import YEAR_MS, new_online_keys, run_ahead
from tests.trust.ceremony import HOUR_MS

ONLINE = ("timestamp", "snapshot")


def assign_over_the_broker(scene: Scene, released: Released) -> None:
    order = scene.sealed(scene.assignment(released))
    scene.obey(scene.receive(Channel.ASSIGNMENT, order))
    scene.settle()


def forget(directory: Path) -> None:
    for path in directory.rglob("*.json"):
        if path.name != "anchor.json":
            path.unlink()


@pytest.mark.parametrize("lost", [False, True], ids=["with-its-metadata", "without-its-metadata"])
def test_fast_forward_and_recovery(scene: Scene, v2: Released, lost: bool) -> None:
    """The last numbers that there are, and a clock floor near everything's expiry."""
    world = scene.world
    thief = world.repository.assignment_key()
    with Asking(scene.server, "digits", QUESTIONS) as client:
        of_v1 = client.goes_on()
        run_ahead(world, scene.source.replaced, MAX_VERSION, {})
        scene.publish_trust()
        scene.guard.refresh()
        seen = scene.journal.trust_versions()
        assert [seen[role] for role in ONLINE] == [MAX_VERSION, MAX_VERSION]
        assert scene.guard.now_ms() > world.now_ms + YEAR_MS // 12

        # The thief is out, and the hub's own keys go on where they were: nobody believes them.
        scene.source.replaced.clear()
        world.repository.sign_online(world.now_ms)
        scene.publish_trust()
        scene.refuses(v2, Cause.ROLLBACK)
        assert client.goes_on() == of_v1

        assert new_online_keys(world).done
        if lost:
            forget(scene.state_dir / "tuf")
        scene.publish_trust()
        scene.guard.refresh()
        seen = scene.journal.trust_versions()
        assert all(seen[role] < 1_000 for role in ONLINE)
        assert scene.guard.now_ms() == world.now_ms
        scene.deaf_to(Channel.ASSIGNMENT, seal(scene.assignment(v2), thief), Untrusted)
        assert client.goes_on() == of_v1

        assign_over_the_broker(scene, v2)
        scene.finish()
        assert scene.serving() == v2.digest
        assert client.goes_on() == scene.answers() != of_v1
        assert set(client.answers) == {of_v1, scene.answers()}


def test_what_the_thief_signs_after_the_recovery(scene: Scene, v2: Released) -> None:
    """With a broker that still holds it, and hides the new root beside it."""
    world = scene.world
    run_ahead(world, scene.source.replaced, MAX_VERSION, {})
    theirs, before = dict(scene.source.replaced), world.repository.files()
    scene.publish_trust()
    scene.guard.refresh()
    scene.source.replaced.clear()
    new_online_keys(world)
    scene.publish_trust()
    scene.guard.refresh()
    world.now_ms += HOUR_MS

    for held in (world.repository.files() | theirs, before | theirs):
        scene.publish_trust(held)
        scene.refuses(v2, Cause.UNTRUSTED)
    scene.publish_trust()
    scene.serve(v2)
