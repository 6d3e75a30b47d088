"""`tuf/index` is a hint that nobody signs: what a lie in it can do, and what it cannot."""

from __future__ import annotations

from contract.deployments import Cause
from contract.messages import TufFile
from contract.topics import tuf_index_topic
from tests.agent.deployment.releases import Released
from tests.attacks.scene import Scene


def listed(scene: Scene) -> dict[str, TufFile]:
    return dict(scene.world.repository.index(0).files)


def test_a_missing_index(scene: Scene, v2: Released) -> None:
    scene.hub.retain(tuf_index_topic(), b"")
    scene.refuses(v2, Cause.TRANSPORT)

    scene.publish_trust()
    scene.recovers(v2)


def test_an_index_that_lists_nothing(scene: Scene, v2: Released) -> None:
    scene.publish_index({})
    scene.refuses(v2, Cause.TRANSPORT)


def test_an_index_that_hides_a_file(scene: Scene, v2: Released) -> None:
    files = listed(scene)
    del files["3.digits.json"]
    scene.publish_index(files)
    scene.refuses(v2, Cause.TRANSPORT)


def test_an_index_that_lists_what_nobody_has(scene: Scene, v2: Released) -> None:
    scene.publish_index(listed(scene) | {"2.root.json": TufFile(100, "0" * 64)})
    scene.refuses(v2, Cause.TRANSPORT)


def test_an_index_that_is_garbage(scene: Scene, v2: Released) -> None:
    scene.hub.retain(tuf_index_topic(), b"{" * 1000)
    scene.refuses(v2, Cause.MALFORMED)


def test_an_endless_index(scene: Scene, v2: Released) -> None:
    scene.hub.retain(tuf_index_topic(), b" " * 600_000)
    scene.refuses(v2, Cause.TRANSPORT)


def test_an_index_that_lies_about_sizes_and_digests(scene: Scene, v2: Released) -> None:
    """Nothing rests on them: the update goes through."""
    scene.publish_index({name: TufFile(1, "f" * 64) for name in listed(scene)})
    scene.serve(v2)
    assert scene.serving() == v2.digest
