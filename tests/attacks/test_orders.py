"""Assignments and commands over the broker: who signed them, for whom, when, and of what."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from agent.errors import Malformed, PolicyRefused, RollbackDetected, Untrusted
from contract.deployments import Cause
from contract.envelope import seal
from contract.topics import Channel
from contract.trust import encode_trust
from tests.agent.deployment.releases import Released
from tests.agent.trust.offers import offer
from tests.attacks.scene import Scene
from tests.trust.ceremony import DAY_MS, HOUR_MS
from tests.trust.forgery import bump, forge, offline

ORDERS = pytest.mark.parametrize("channel", [Channel.ASSIGNMENT, Channel.COMMAND])


def order(scene: Scene, channel: Channel, released: Released) -> Any:
    """What would change the device: another release, or the way back."""
    if channel is Channel.ASSIGNMENT:
        return scene.assignment(released)
    return scene.command()


@ORDERS
def test_a_forged_order(scene: Scene, v2: Released, channel: Channel) -> None:
    forged = seal(order(scene, channel, v2), Ed25519PrivateKey.generate())
    scene.deaf_to(channel, forged, Untrusted)


@ORDERS
def test_an_order_that_was_altered(scene: Scene, v2: Released, channel: Channel) -> None:
    sealed = scene.sealed(order(scene, channel, v2))
    envelope = msgspec.json.decode(sealed)
    other = msgspec.json.decode(scene.sealed(scene.assignment(v2, seq=9)))
    envelope["payload"] = other["payload"]
    scene.deaf_to(channel, msgspec.json.encode(envelope), Untrusted)


@ORDERS
def test_an_order_for_another_device(scene: Scene, v2: Released, channel: Channel) -> None:
    message = msgspec.structs.replace(order(scene, channel, v2), device="pi-2")
    scene.deaf_to(channel, scene.sealed(message), PolicyRefused)


@ORDERS
def test_an_order_that_has_expired(scene: Scene, v2: Released, channel: Channel) -> None:
    old = scene.sealed(order(scene, channel, v2))
    scene.world.now_ms += 300 * DAY_MS
    scene.deaf_to(channel, old, PolicyRefused)


@ORDERS
def test_an_expired_order_offered_to_a_clock_at_1970(
    scene: Scene, v2: Released, channel: Channel
) -> None:
    message = order(scene, channel, v2)
    old = msgspec.structs.replace(message, expires_at_ms=scene.world.now_ms - HOUR_MS)
    scene.clock_ms = 0
    scene.deaf_to(channel, scene.sealed(old), PolicyRefused)


@ORDERS
def test_a_genuine_order_on_the_wrong_channel(scene: Scene, v2: Released, channel: Channel) -> None:
    other = Channel.COMMAND if channel is Channel.ASSIGNMENT else Channel.ASSIGNMENT
    scene.deaf_to(other, scene.sealed(order(scene, channel, v2)), Malformed)


def test_an_assignment_that_is_replayed(scene: Scene, v1: Released, v2: Released) -> None:
    first = scene.sealed(scene.assignment(v1, seq=1))
    scene.serve(v2)
    scene.deaf_to(Channel.ASSIGNMENT, first, RollbackDetected)


def test_an_assignment_that_uses_up_all_numbers(scene: Scene, v2: Released) -> None:
    ahead = scene.sealed(scene.assignment(v2, seq=1 << 40))
    scene.deaf_to(Channel.ASSIGNMENT, ahead, PolicyRefused)


# What a thief of the hub's key may ask for, and does not get


def test_a_release_that_nobody_signed(scene: Scene, v1: Released, v2: Released) -> None:
    unsigned = msgspec.structs.replace(v2.manifest, version="66")
    scene.refuses(type(v2)(unsigned, v2.manifest_bytes, v2.blobs), Cause.UNTRUSTED)


def test_a_release_under_another_s_digest(scene: Scene, v1: Released, v2: Released) -> None:
    scene.refuses(type(v2)(v2.manifest, v1.manifest_bytes, v1.blobs), Cause.UNTRUSTED)


def test_a_release_for_another_device_class(scene: Scene, v2: Released) -> None:
    def for_jetsons(family: Any) -> None:
        bump(family)
        family.targets["digits/2"].unrecognized_fields["custom"]["device_classes"] = ["jetson"]

    sign_family(scene, for_jetsons)
    scene.refuses(v2, Cause.POLICY)


def test_a_release_below_the_floor(scene: Scene, v2: Released) -> None:
    raise_floor(scene, 3)
    scene.refuses(v2, Cause.POLICY)


def test_a_floor_that_was_seen_and_is_now_withheld(
    scene: Scene, v1: Released, v2: Released
) -> None:
    """The release below it is still on this disk, and was once verified."""
    scene.serve(v2)
    raise_floor(scene, 2)
    scene.guard.refresh()
    scene.publish_index({})
    scene.refuses(v1, Cause.TRANSPORT)


def test_a_command_to_go_back_below_the_floor(scene: Scene, v2: Released) -> None:
    scene.serve(v2)
    raise_floor(scene, 2)
    scene.guard.refresh()
    scene.deaf_to(Channel.COMMAND, scene.sealed(scene.command()), PolicyRefused)


def test_a_release_that_was_withdrawn(scene: Scene, v2: Released) -> None:
    def withdraw(family: Any) -> None:
        bump(family)
        del family.targets["digits/2"]

    sign_family(scene, withdraw)
    scene.refuses(v2, Cause.UNTRUSTED)


def sign_family(scene: Scene, change: Any) -> None:
    """The family's own signer publishes a change."""
    data = scene.world.repository.file("digits.json")
    assert data is not None
    signed = forge(data, change, offline(scene.world, "family-digits"))
    offer(scene.world, scene, "digits", 4, signed)
    scene.publish_trust()


def raise_floor(scene: Scene, counter: int) -> None:
    """The targets key signs `min_counter`."""
    data = scene.world.repository.file("targets.json")
    assert data is not None

    def lift(targets: Any) -> None:
        bump(targets)
        policy = targets.targets["policy/digits"]
        policy.unrecognized_fields["custom"]["min_counter"] = counter

    files = {n: d for n, d in scene.world.repository.files().items() if n[0].isdigit()}
    files = {n: d for n, d in files.items() if "snapshot" not in n}
    files["2.targets.json"] = forge(data, lift, offline(scene.world, "targets-1"))
    scene.world.repository.import_trust(encode_trust(files))
    scene.world.repository.sign_online(scene.world.now_ms)
    scene.publish_trust()
