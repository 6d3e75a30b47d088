"""What is offered as signed metadata: whose it is, what it is, and how old it is."""

from __future__ import annotations

import json
from typing import Any

import pytest
from securesystemslib.signer import CryptoSigner, SSlibKey
from tuf.api.metadata import MetaFile

from contract.deployments import Cause
from contract.trust import encode_trust
from tests.agent.deployment.releases import Released
from tests.agent.trust.offers import (
    offer,
    replace_linked,
    replace_snapshot,
    resign,
    rotate_online_keys,
)
from tests.attacks.scene import Scene
from tests.trust.ceremony import DAY_MS, World
from tests.trust.forgery import bump, forge, offline, stolen_online, stranger


def file(world: World, role: str) -> bytes:
    """The newest metadata of a role."""
    data = world.repository.file(f"{role}.json")
    assert data is not None
    return data


def version(world: World, role: str) -> int:
    return world.repository.versions()[role]


# Whose it is


def test_metadata_signed_with_a_wrong_key(scene: Scene, v2: Released) -> None:
    forged = forge(file(scene.world, "digits"), bump, [stranger()])
    offer(scene.world, scene, "digits", 4, forged)
    scene.publish_trust()
    scene.refuses(v2, Cause.UNTRUSTED)


def test_a_root_with_too_few_signatures(scene: Scene, v2: Released) -> None:
    root = forge(file(scene.world, "root"), bump, offline(scene.world, "root-1"))
    scene.source.replaced["2.root.json"] = root
    scene.publish_trust()
    scene.refuses(v2, Cause.UNTRUSTED)


def test_a_root_with_duplicate_signatures(scene: Scene, v2: Released) -> None:
    root_1 = offline(scene.world, "root-1")[0]
    public = root_1.public_key
    alias = SSlibKey("a" * 64, public.keytype, public.scheme, public.keyval)

    def twice(root: Any) -> None:
        bump(root)
        root.add_key(alias, "root")

    second = CryptoSigner(root_1._private_key, alias)
    root = forge(file(scene.world, "root"), twice, [root_1, second])
    scene.source.replaced["2.root.json"] = root
    scene.publish_trust()
    scene.refuses(v2, Cause.UNTRUSTED)


def test_a_root_with_one_signature_listed_twice(scene: Scene, v2: Released) -> None:
    root = forge(file(scene.world, "root"), bump, offline(scene.world, "root-1"))
    listed = json.loads(root)
    listed["signatures"] *= 2
    scene.source.replaced["2.root.json"] = json.dumps(listed).encode()
    scene.publish_trust()
    scene.refuses(v2, Cause.MALFORMED)


def test_a_family_key_that_was_revoked(scene: Scene, v2: Released) -> None:
    thief = offline(scene.world, "family-digits")
    new = stranger()

    def replace_key(targets: Any) -> None:
        bump(targets)
        old = targets.delegations.roles["digits"].keyids[0]
        targets.revoke_key(old, "digits")
        targets.add_key(new.public_key, "digits")

    targets = forge(file(scene.world, "targets"), replace_key, offline(scene.world, "targets-1"))
    again = forge(file(scene.world, "digits"), bump, [new])
    roots = {n: d for n, d in scene.world.repository.files().items() if n.endswith("root.json")}
    offered = {"2.targets.json": targets, "4.digits.json": again, **roots}
    scene.world.repository.import_trust(encode_trust(offered))
    scene.world.repository.sign_online(scene.world.now_ms)
    scene.publish_trust()
    scene.guard.refresh()

    offer(scene.world, scene, "digits", 5, forge(again, bump, thief))
    scene.publish_trust()
    scene.refuses(v2, Cause.UNTRUSTED)


def test_a_rotation_that_is_hidden(scene: Scene, v2: Released) -> None:
    """The old timestamp key still signs, and the broker no longer shows the root that dropped it;
    the device has seen that root, and needs nobody to show it again."""
    thief = stolen_online(scene.world, "timestamp")
    old = {n: d for n, d in scene.world.repository.files().items() if n != "timestamp.json"}
    newer = forge(file(scene.world, "timestamp"), lambda t: setattr(t, "version", 99), [thief])
    rotate_online_keys(scene.world)
    scene.publish_trust()
    scene.guard.refresh()

    scene.publish_trust(old | {"timestamp.json": newer})
    scene.refuses(v2, Cause.UNTRUSTED)


def test_stolen_online_keys_that_add_a_target(scene: Scene, v2: Released) -> None:
    def add(family: Any) -> None:
        bump(family)
        family.targets["digits/66"] = family.targets["digits/2"]

    keys = [stolen_online(scene.world, role) for role in ("snapshot", "timestamp")]
    offer(scene.world, scene, "digits", 4, forge(file(scene.world, "digits"), add, keys))
    scene.publish_trust()
    scene.refuses(v2, Cause.UNTRUSTED)


# What it is


def test_tampered_metadata(scene: Scene, v2: Released) -> None:
    data = file(scene.world, "digits")
    scene.source.replaced["3.digits.json"] = data.replace(b'"counter":2', b'"counter":9')
    assert scene.source.replaced["3.digits.json"] != data
    scene.publish_trust()
    scene.refuses(v2, Cause.TAMPERED)


def test_short_metadata(scene: Scene, v2: Released) -> None:
    scene.source.replaced["3.digits.json"] = file(scene.world, "digits")[:-1]
    scene.publish_trust()
    scene.refuses(v2, Cause.TAMPERED)


def test_a_short_timestamp(scene: Scene, v2: Released) -> None:
    scene.source.replaced["timestamp.json"] = file(scene.world, "timestamp")[:-1]
    scene.publish_trust()
    scene.refuses(v2, Cause.MALFORMED)


def test_endless_metadata(scene: Scene, v2: Released) -> None:
    """Its length is all that is wrong with it: cut short, or read to its end, it is genuine."""
    scene.source.replaced["timestamp.json"] = file(scene.world, "timestamp") + b" " * 100_000
    scene.publish_trust()
    scene.refuses(v2, Cause.MALFORMED)


def test_a_json_bomb(scene: Scene, v2: Released) -> None:
    scene.source.replaced["timestamp.json"] = b"[" * 16_000
    scene.publish_trust()
    scene.refuses(v2, Cause.MALFORMED)


def test_one_role_s_metadata_in_place_of_another_s(scene: Scene, v2: Released) -> None:
    scene.source.replaced["timestamp.json"] = file(scene.world, "snapshot")
    scene.publish_trust()
    scene.refuses(v2, Cause.MALFORMED)


def test_files_of_two_states_mixed(scene: Scene, v2: Released) -> None:
    old = file(scene.world, "snapshot")
    resign(scene.world)
    scene.source.replaced[f"{version(scene.world, 'snapshot')}.snapshot.json"] = old
    scene.publish_trust()
    scene.refuses(v2, Cause.TAMPERED)


# Going back


def test_an_older_timestamp(scene: Scene, v2: Released) -> None:
    old = scene.world.repository.files()
    resign(scene.world)
    scene.publish_trust()
    scene.guard.refresh()

    scene.publish_trust(old)
    scene.refuses(v2, Cause.ROLLBACK)


def test_an_older_snapshot_under_a_newer_timestamp(scene: Scene, v2: Released) -> None:
    old = version(scene.world, "snapshot")
    data = file(scene.world, "snapshot")
    resign(scene.world)
    scene.publish_trust()
    scene.guard.refresh()

    replace_linked(scene.world, scene, f"{old}.snapshot.json", data)
    scene.publish_trust()
    scene.refuses(v2, Cause.ROLLBACK)


@pytest.mark.parametrize("role", ["targets", "digits"])
def test_older_targets_under_a_newer_snapshot(scene: Scene, v2: Released, role: str) -> None:
    old, data = version(scene.world, role), file(scene.world, role)
    scene.world.init_keys("digits", "words", "plants")
    scene.world.import_trust()
    scene.world.publish("digits", "7")
    scene.publish_trust()
    scene.guard.refresh()
    assert scene.journal.trust_versions()[role] == old + 1

    def older(snapshot: Any) -> None:
        bump(snapshot)
        snapshot.meta[f"{role}.json"] = MetaFile(old)

    scene.source.replaced[f"{old}.{role}.json"] = data
    replace_snapshot(scene.world, scene, older)
    scene.publish_trust()
    scene.refuses(v2, Cause.ROLLBACK)


# Standing still


def test_a_frozen_timestamp(scene: Scene, v2: Released) -> None:
    scene.world.now_ms += DAY_MS
    scene.refuses(v2, Cause.STALE)


def test_a_frozen_snapshot(scene: Scene, v2: Released) -> None:
    from converter.trust.metadata import expiry

    scene.world.now_ms += 8 * DAY_MS

    def fresh(timestamp: Any) -> None:
        bump(timestamp)
        timestamp.expires = expiry(scene.world.now_ms, DAY_MS)

    thief = [stolen_online(scene.world, "timestamp")]
    scene.source.replaced["timestamp.json"] = forge(file(scene.world, "timestamp"), fresh, thief)
    scene.publish_trust()
    assert "snapshot" in scene.refuses(v2, Cause.STALE).detail


@pytest.mark.parametrize(("role", "days"), [("targets", 91), ("root", 366)])
def test_frozen_offline_metadata(scene: Scene, v2: Released, role: str, days: int) -> None:
    scene.world.now_ms += days * DAY_MS
    scene.world.repository.sign_online(scene.world.now_ms)
    scene.publish_trust()
    assert role in scene.refuses(v2, Cause.STALE).detail


# Clocks


def test_expired_metadata_offered_to_a_clock_at_1970(scene: Scene, v2: Released) -> None:
    old = scene.world.repository.files()
    scene.world.now_ms += 30 * DAY_MS
    resign(scene.world)
    scene.publish_trust()
    scene.guard.refresh()
    for name in ("timestamp.json", "snapshot.json"):
        (scene.state_dir / "tuf" / name).unlink()

    scene.clock_ms = 0
    scene.publish_trust(old)
    scene.refuses(v2, Cause.STALE)


def test_a_clock_in_the_future(scene: Scene, v2: Released) -> None:
    scene.clock_ms = scene.world.now_ms + 4_000 * DAY_MS
    scene.refuses(v2, Cause.STALE)

    scene.clock_ms = None
    scene.recovers(v2)


def test_a_hub_that_lies_about_the_future(scene: Scene, v2: Released) -> None:
    """No device is pushed to where everything that offline keys signed has expired."""

    def lie(timestamp: Any) -> None:
        bump(timestamp)
        timestamp.unrecognized_fields["issued_at_ms"] = scene.world.now_ms + 10_000 * DAY_MS

    replace_snapshot(scene.world, scene, bump, lie)
    scene.publish_trust()
    scene.serve(v2)
    assert scene.guard.now_ms() < scene.world.now_ms + DAY_MS
