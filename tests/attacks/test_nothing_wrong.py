"""The scene itself: without an attack, the very same steps bring the new release into service."""

from __future__ import annotations

from tests.agent.deployment.releases import Released
from tests.attacks.scene import Scene


def test_without_an_attack_the_release_is_served(scene: Scene, v1: Released, v2: Released) -> None:
    before = scene.answers()
    scene.serve(v2)
    assert scene.serving() == v2.digest
    assert scene.answers() != before
