"""New online keys: they wait until offline keys name them, and then the old ones are gone."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from tuf.api.metadata import Metadata, Root

from contract.trust import MAX_VERSION, HubPublicKeys, decode_trust, encode_trust
from converter.trust.metadata import public_key, set_policy
from fleet.trust.errors import NumbersUsedUp, TrustForAnotherHub
from fleet.trust.freshness import believable
from fleet.trust.repository import Repository
from tests.trust.ceremony import World
from tests.trust.forgery import bump, forge, offline, stolen_online


def naming(world: World, hub: HubPublicKeys) -> bytes:
    """A trust.json that names these keys of the hub."""
    from contract.targets import HUB_KEYS_TARGET, HubKeys

    def root(signed: Any) -> None:
        bump(signed)
        for role, public in (("snapshot", hub.snapshot), ("timestamp", hub.timestamp)):
            signed.revoke_key(signed.roles[role].keyids[0], role)
            signed.add_key(public_key(public), role)

    def targets(signed: Any) -> None:
        bump(signed)
        set_policy(signed, HUB_KEYS_TARGET, HubKeys(keys=[hub.assignment]))

    files = decode_trust((world.keys / "trust.json").read_bytes())
    files["2.root.json"] = forge(files["1.root.json"], root, offline(world, "root-1", "root-3"))
    files["2.targets.json"] = forge(files["1.targets.json"], targets, offline(world, "targets-1"))
    return encode_trust(files)


def public(hub: Repository) -> tuple[str, str, str]:
    keys = hub.hub_public_keys()
    return keys.snapshot, keys.timestamp, keys.assignment


def waiting(world: World) -> tuple[HubPublicKeys, tuple[str, str, str]]:
    keys = world.repository.stage_online_keys()
    return keys, (keys.snapshot, keys.timestamp, keys.assignment)


def test_new_keys_wait_while_the_hub_goes_on_with_the_old_ones(world: World) -> None:
    before = public(world.repository)

    waiting(world)
    world.publish("digits", "1")

    assert public(world.repository) == before
    assert world.repository.release("digits/1")[1].counter == 1


def test_making_new_keys_twice_gives_the_same_ones(world: World) -> None:
    assert waiting(world) == waiting(world)


def test_the_import_that_names_new_keys_puts_them_in_force(world: World) -> None:
    keys, expected = waiting(world)

    world.repository.import_trust(naming(world, keys))

    assert public(world.repository) == expected
    assert not (world.repository.keys / "next").exists()
    assert world.repository.sign_online(world.now_ms)
    root = Metadata[Root].from_bytes(world.repository.files()["2.root.json"]).signed
    assert root.roles["timestamp"].keyids == [stolen_online(world, "timestamp").public_key.keyid]


def test_trust_that_names_neither_the_old_nor_the_waiting_keys_is_refused(world: World) -> None:
    other = Repository(world.directory / "other" / "tuf")
    other.create_online_keys()
    waiting(world)

    with pytest.raises(TrustForAnotherHub):
        world.repository.import_trust(naming(world, other.hub_public_keys()))


@pytest.mark.parametrize("survives", [0, 1, 2])
def test_an_import_cut_short_while_keys_change_is_finished_by_the_next_signature(
    world: World, monkeypatch: pytest.MonkeyPatch, survives: int
) -> None:
    keys, expected = waiting(world)
    left = [survives]

    def dying(source: Path, destination: Path) -> None:
        if not left[0]:
            raise KeyboardInterrupt
        left[0] -= 1
        os.rename(source, destination)

    with monkeypatch.context() as power:
        power.setattr("fleet.trust.online._move", dying)
        with pytest.raises(KeyboardInterrupt):
            world.repository.import_trust(naming(world, keys))

    assert world.repository.sign_online(world.now_ms)
    assert public(world.repository) == expected


def test_snapshots_that_a_thief_left_far_ahead_are_cleared_away(world: World) -> None:
    tuf = world.repository.directory
    for version in range(MAX_VERSION - 20, MAX_VERSION + 1):
        (tuf / f"{version}.snapshot.json").touch()
    keys, _ = waiting(world)
    world.repository.import_trust(naming(world, keys))

    assert world.repository.sign_online(world.now_ms)

    assert world.repository.versions()["snapshot"] < believable(world.now_ms)
    assert not list(tuf.glob("9*.snapshot.json"))


def test_a_thief_who_used_up_the_numbers_is_named_with_the_way_out(world: World) -> None:
    files = world.repository.files()
    forged = forge(
        files["timestamp.json"],
        lambda signed: setattr(signed, "version", MAX_VERSION),
        [stolen_online(world, "timestamp")],
    )
    (world.repository.directory / "timestamp.json").write_bytes(forged)
    world.now_ms += 86_400_000

    with pytest.raises(NumbersUsedUp, match="outrider hub new-keys"):
        world.repository.sign_online(world.now_ms)
