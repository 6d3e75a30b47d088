"""`policy/ca` in the device's view: only offline keys fill it, and a broken one harms nothing."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from securesystemslib.signer import CryptoSigner

from agent.errors import Malformed, Untrusted
from contract.authorities import ca_policy
from contract.targets import CA_TARGET
from converter.trust.custody import replace_roots
from converter.trust.metadata import set_policy
from tests.agent.trust.offers import offer, refuse
from tests.mosquitto import Authority
from tests.trust.ceremony import PASSPHRASE, Device, World
from tests.trust.forgery import bump, forge, offline, stolen_online, stranger


@pytest.fixture
def root(tmp_path: Path) -> Authority:
    return Authority(tmp_path / "ca", "new root")


def trust(world: World, *authorities: Authority) -> None:
    roots = [each.pem.encode() for each in authorities]
    replace_roots(world.keys, roots, lambda: PASSPHRASE, world.now_ms)
    world.import_trust()


def with_root(world: World, root: Authority, signers: Sequence[CryptoSigner]) -> bytes:
    """The next targets.json, which names this root, signed by these keys alone."""

    def add(signed: Any) -> None:
        bump(signed)
        set_policy(signed, CA_TARGET, ca_policy([root.pem.encode()]))

    return forge(world.repository.files()["1.targets.json"], add, signers)


def test_without_a_policy_the_view_names_no_root(world: World, device: Device) -> None:
    assert list(device.guard.refresh().ca_roots) == []


def test_signed_roots_are_in_the_view_and_in_its_record(
    world: World, device: Device, root: Authority
) -> None:
    trust(world, root)

    assert list(device.guard.refresh(["digits/1"]).ca_roots) == [root.pem]

    kept = device.guard.cached_view()
    assert kept is not None
    assert list(kept.ca_roots) == [root.pem]


@pytest.mark.parametrize("role", ["snapshot", "timestamp"])
def test_a_stolen_hub_cannot_add_a_root(
    world: World, device: Device, root: Authority, role: str
) -> None:
    """The thief signs targets.json with a key that the hub has, and all that leads to it."""
    device.guard.refresh()

    offer(world, device, "targets", 2, with_root(world, root, [stolen_online(world, role)]))

    refuse(device, Untrusted)
    kept = device.guard.cached_view()
    assert kept is not None
    assert list(kept.ca_roots) == []


def test_a_team_s_key_cannot_add_a_root(world: World, device: Device, root: Authority) -> None:
    device.guard.refresh()

    offer(world, device, "targets", 2, with_root(world, root, offline(world, "family-digits")))

    refuse(device, Untrusted)


def test_a_stranger_cannot_add_a_root(world: World, device: Device, root: Authority) -> None:
    device.guard.refresh()

    offer(world, device, "targets", 2, with_root(world, root, [stranger()]))

    refuse(device, Untrusted)


def test_a_policy_that_cannot_be_read_changes_no_root_and_stops_no_release(
    world: World, device: Device
) -> None:
    """The hub refuses such a policy; a device does not rely on it."""
    world.publish("digits", "1")

    def spoil(signed: Any) -> None:
        bump(signed)
        set_policy(signed, CA_TARGET, ca_policy([Authority(world.directory / "ca").pem.encode()]))
        signed.targets[CA_TARGET].custom["roots"] = ["no PEM"]

    files = world.repository.files()
    offer(
        world,
        device,
        "targets",
        2,
        forge(files["1.targets.json"], spoil, offline(world, "targets-1")),
    )

    view = device.guard.refresh()

    assert list(view.ca_roots) == []
    assert isinstance(view.refused[CA_TARGET], Malformed)
    assert view.release("digits/1").custom.counter == 1
