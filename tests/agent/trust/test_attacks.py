"""One test an attack: what is offered, and the class under which the device refuses it."""

from __future__ import annotations

from typing import Any

import pytest
from tuf.api.metadata import DelegatedRole, Delegations, MetaFile, TargetFile

from agent.errors import (
    Malformed,
    Tampered,
    TransportFailed,
    Untrusted,
)
from tests.agent.trust.offers import (
    offer,
    refuse,
    replace_linked,
    replace_snapshot,
    resign,
    rotate_online_keys,
)
from tests.trust.ceremony import DAY_MS, Device, World
from tests.trust.forgery import bump, forge, offline, stolen_online, stranger

# Who signed


@pytest.mark.parametrize("name", ["timestamp.json", "3.snapshot.json"])
def test_a_stranger_s_online_metadata_is_untrusted(world: World, seen: Device, name: str) -> None:
    resign(world)
    forged = forge(world.repository.files()[name], lambda signed: None, [stranger()])

    replace_linked(world, seen, name, forged)
    refuse(seen, Untrusted)


def test_a_stranger_s_family_metadata_is_untrusted(world: World, seen: Device) -> None:
    forged = forge(world.repository.files()["2.digits.json"], bump, [stranger()])

    offer(world, seen, "digits", 3, forged)
    refuse(seen, Untrusted)


def test_one_family_s_key_cannot_sign_for_another(world: World, seen: Device) -> None:
    forged = forge(world.repository.files()["2.digits.json"], bump, offline(world, "family-words"))

    offer(world, seen, "digits", 3, forged)
    refuse(seen, Untrusted)


def test_one_family_s_key_cannot_list_a_release_of_another(world: World, seen: Device) -> None:
    def poach(family: Any) -> None:
        bump(family)
        target = family.targets["digits/1"]
        family.targets["words/66"] = TargetFile(
            target.length, target.hashes, "words/66", target.unrecognized_fields
        )

    forged = forge(
        world.repository.files()["2.digits.json"], poach, offline(world, "family-digits")
    )
    offer(world, seen, "digits", 3, forged)

    view = seen.guard.refresh(["digits/1", "words/66"])
    with pytest.raises(Untrusted):
        view.release("words/66")


def test_one_family_s_key_cannot_delegate_another_family(world: World, seen: Device) -> None:
    """Role names are global in TUF. Were what one parent vouched for not asked of the next, a thief
    with the online keys as well would sign for every family."""
    thief = stranger()

    def delegate(family: Any) -> None:
        bump(family)
        role = DelegatedRole("words", [thief.public_key.keyid], 1, True, ["digits/*"])
        family.delegations = Delegations(
            {thief.public_key.keyid: thief.public_key}, {"words": role}
        )

    def poach(family: Any) -> None:
        bump(family)
        custom = {"schema": 1, "family": "words", "counter": 66}
        target = TargetFile(7, {"sha256": "6" * 64}, "words/66", {"custom": custom})
        family.targets["words/66"] = target

    files = world.repository.files()
    digits = forge(files["2.digits.json"], delegate, offline(world, "family-digits"))
    words = forge(files["1.words.json"], poach, [thief])
    seen.source.replaced |= {"3.digits.json": digits, "2.words.json": words}

    def listing(snapshot: Any) -> None:
        bump(snapshot)
        snapshot.meta |= {"digits.json": MetaFile(3), "words.json": MetaFile(2)}

    replace_snapshot(world, seen, listing)

    view = seen.guard.refresh()
    assert "words/66" not in view.releases
    with pytest.raises(Untrusted):
        view.release("words/66")
    assert seen.journal.trust_versions().get("words", 0) < 2


def test_stolen_online_keys_cannot_add_a_release(world: World, seen: Device) -> None:
    forged = forge(
        world.repository.files()["2.digits.json"], bump, [stolen_online(world, "snapshot")]
    )

    offer(world, seen, "digits", 3, forged)
    refuse(seen, Untrusted)


@pytest.mark.parametrize("version", [10**9, 1 << 63, 10**30])
def test_a_version_beyond_every_bound_is_malformed_and_not_kept(
    world: World, seen: Device, version: int
) -> None:
    known = dict(seen.journal.versions)

    replace_snapshot(world, seen, bump, lambda timestamp: setattr(timestamp, "version", version))
    refuse(seen, Malformed)
    assert seen.journal.versions == known


def test_a_family_key_cannot_overflow_what_the_device_keeps(world: World, seen: Device) -> None:
    def endless(targets: Any) -> None:
        bump(targets)
        targets.targets["digits/1"].length = 10**30

    forged = forge(
        world.repository.files()["2.digits.json"], endless, offline(world, "family-digits")
    )

    offer(world, seen, "digits", 3, forged)
    view = seen.guard.refresh(["digits/1"])
    with pytest.raises(Malformed):
        view.release("digits/1")
    assert seen.guard.cached_view() is not None


def test_targets_that_drop_a_family_s_policy_do_not_lower_its_floor(
    world: World, seen: Device
) -> None:
    def drop(targets: Any) -> None:
        bump(targets)
        del targets.targets["policy/digits"]

    seen.journal.counters["digits"] = 5
    forged = forge(world.repository.files()["1.targets.json"], drop, offline(world, "targets-1"))

    offer(world, seen, "targets", 2, forged)
    view = seen.guard.refresh()
    assert view.versions["targets"] == 2
    assert view.min_counter("digits") == 5


def test_one_root_key_cannot_change_the_root(world: World, seen: Device) -> None:
    forged = forge(world.repository.files()["1.root.json"], bump, offline(world, "root-1"))

    seen.source.replaced["2.root.json"] = forged
    refuse(seen, Untrusted)


def test_two_signatures_of_one_root_key_count_once(world: World, seen: Device) -> None:
    from securesystemslib.signer import CryptoSigner, SSlibKey

    root_1 = offline(world, "root-1")[0]

    def twice(root: Any) -> None:
        bump(root)
        key = root_1.public_key
        alias = SSlibKey("a" * 64, key.keytype, key.scheme, key.keyval)
        root.add_key(alias, "root")

    alias = SSlibKey("a" * 64, "ed25519", "ed25519", root_1.public_key.keyval)
    second = CryptoSigner(root_1._private_key, alias)
    forged = forge(world.repository.files()["1.root.json"], twice, [root_1, second])

    seen.source.replaced["2.root.json"] = forged
    refuse(seen, Untrusted)


# What the bytes are


def test_tampered_family_metadata_is_found_by_its_hash(world: World, seen: Device) -> None:
    world.publish("digits", "2")
    data = world.repository.files()["3.digits.json"]

    seen.source.replaced["3.digits.json"] = data.replace(b"digits/2", b"digits/3")
    refuse(seen, Tampered)


def test_endless_metadata_is_cut_off(world: World, seen: Device) -> None:
    seen.source.replaced["timestamp.json"] = b"x" * 100_000

    refuse(seen, Tampered, "longer than")


@pytest.mark.parametrize("bomb", [b"[" * 16_000, b'{"signed":' * 1_600, b"{}", b"\xff", b""])
def test_a_timestamp_that_is_not_metadata_is_malformed(
    world: World, seen: Device, bomb: bytes
) -> None:
    seen.source.replaced["timestamp.json"] = bomb

    refuse(seen, Malformed)


def test_one_role_s_metadata_cannot_stand_in_for_another_s(world: World, seen: Device) -> None:
    seen.source.replaced["timestamp.json"] = world.repository.files()["2.snapshot.json"]

    refuse(seen, Malformed, "timestamp")


def test_files_of_two_states_cannot_be_mixed(world: World, seen: Device) -> None:
    resign(world)
    old = world.repository.files()["3.snapshot.json"]
    resign(world)

    seen.source.replaced["4.snapshot.json"] = old
    refuse(seen, Tampered)


def test_a_listed_file_that_the_broker_has_lost_is_a_transport_failure(
    world: World, seen: Device
) -> None:
    resign(world)
    files = world.repository.files()
    del files["3.snapshot.json"]

    seen.source.files = lambda: files
    refuse(seen, TransportFailed, "snapshot")


# Recovery


def test_new_online_keys_recover_from_a_thief_who_ran_ahead(world: World, seen: Device) -> None:
    """The thief signed version 10,000, and a time of issue near the expiry of everything."""

    def ahead(timestamp: Any) -> None:
        timestamp.version = 10_000
        timestamp.unrecognized_fields["issued_at_ms"] = world.now_ms + 6 * DAY_MS
        timestamp.expires = timestamp.expires.replace(year=timestamp.expires.year + 1)

    replace_snapshot(world, seen, bump, ahead)
    seen.guard.refresh()
    assert seen.journal.versions["timestamp"] == 10_000
    seen.source.replaced.clear()

    rotate_online_keys(world)

    view = seen.guard.refresh(["digits/1"])

    assert view.versions["timestamp"] < 10_000
    assert seen.journal.versions["timestamp"] == view.versions["timestamp"]
    assert seen.journal.floor_ms == world.now_ms
