"""A hub was broken into: what the thief did with its keys, and how offline keys end it."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from typing import Any

import pytest
from tuf.api.metadata import Metadata, MetaFile, Snapshot

from agent.errors import RollbackDetected, StaleMetadata, Untrusted
from agent.trust.admission import check_assignment
from contract.envelope import seal
from contract.messages import Assignment
from contract.trust import MAX_VERSION
from converter.trust.custody import revoke, rotate_family
from tests.trust.break_in import new_online_keys, passphrase, run_ahead
from tests.trust.ceremony import DAY_MS, HOUR_MS, Device, World
from tests.trust.forgery import forge, offline, stolen_online


def at(version: int) -> Callable[[Any], None]:
    return lambda signed: setattr(signed, "version", version)


def test_a_fast_forward_is_undone_by_new_online_keys(world: World, device: Device) -> None:
    run_ahead(world, device.source.replaced, MAX_VERSION, {})
    device.guard.refresh()
    assert device.journal.versions["timestamp"] == MAX_VERSION
    pushed = device.journal.floor_ms
    assert pushed > world.now_ms + 30 * DAY_MS
    device.source.replaced.clear()
    world.repository.sign_online(world.now_ms)
    with pytest.raises(RollbackDetected):
        device.guard.refresh()

    assert new_online_keys(world).done
    world.publish("digits", "2")
    view = device.guard.refresh(["digits/2"])

    assert view.release("digits/2").custom.counter == 2
    assert view.versions["timestamp"] < 1_000
    assert view.now_ms == device.journal.floor_ms == world.now_ms
    world.now_ms += 7 * HOUR_MS
    world.repository.sign_online(world.now_ms)
    assert device.guard.refresh().versions["timestamp"] > view.versions["timestamp"]


def test_a_thief_who_also_held_a_team_s_key_and_ran_its_numbers_up_is_undone(
    world: World, device: Device
) -> None:
    forged = forge(
        world.repository.files()["1.words.json"], at(MAX_VERSION), offline(world, "family-words")
    )
    run_ahead(world, device.source.replaced, 5_000, {"words": forged})
    device.guard.refresh()
    assert device.journal.versions["words"] == MAX_VERSION
    device.source.replaced.clear()

    rotate_family(world.keys, "words", None, [], None, passphrase, world.now_ms)
    new_online_keys(world)
    world.publish("words", "1")

    # One family is asked for first; the other must not stay out for ever.
    device.guard.refresh(["digits/1"])
    assert device.guard.refresh(["words/1"]).release("words/1").custom.counter == 1


def test_a_thief_s_listing_of_versions_that_do_not_exist_is_undone(
    world: World, device: Device
) -> None:
    """The snapshot alone is enough for python-tuf to remember them."""
    files = world.repository.files()
    run_ahead(world, device.source.replaced, 5_000, {})

    def listing(snapshot: Any) -> None:
        snapshot.meta["digits.json"] = MetaFile(MAX_VERSION)

    device.source.replaced["5000.snapshot.json"] = forge(
        device.source.replaced["5000.snapshot.json"], listing, [stolen_online(world, "snapshot")]
    )
    device.guard.refresh(["words/none"])
    device.source.replaced.clear()
    assert "2.digits.json" in files

    new_online_keys(world)

    assert device.guard.refresh(["digits/1"]).release("digits/1").target == "digits/1"


def test_the_numbers_do_not_start_anew_without_a_new_root(world: World, device: Device) -> None:
    run_ahead(world, device.source.replaced, 5_000, {})
    device.guard.refresh()
    device.source.replaced.clear()

    for _ in range(3):
        with pytest.raises(RollbackDetected):
            device.guard.refresh()
    assert device.journal.versions["timestamp"] == 5_000


def test_floors_outlive_new_online_keys(world: World, device: Device) -> None:
    device.journal.counters["digits"] = 1

    new_online_keys(world)

    assert device.guard.refresh().min_counter("digits") == 1
    assert device.journal.versions["root"] == 2


def test_the_thief_s_assignment_key_assigns_nothing_after_it(world: World, device: Device) -> None:
    stolen = world.repository.assignment_key()
    message = Assignment(
        device="cam-1", seq=9, issued_at_ms=world.now_ms, expires_at_ms=world.now_ms + DAY_MS
    )
    view = device.guard.refresh()
    assert check_assignment(seal(message, stolen), view, "cam-1", 0).seq == 9

    new_online_keys(world)
    view = device.guard.refresh()

    with pytest.raises(Untrusted):
        check_assignment(seal(message, stolen), view, "cam-1", 0)
    ours = seal(message, world.repository.assignment_key())
    assert check_assignment(ours, view, "cam-1", 0).seq == 9


def test_what_the_thief_signs_after_it_is_refused(world: World, device: Device) -> None:
    old = {role: stolen_online(world, role) for role in ("snapshot", "timestamp")}
    new_online_keys(world)
    device.guard.refresh()
    files = world.repository.files()
    device.source.replaced["timestamp.json"] = forge(
        files["timestamp.json"], at(900), [old["timestamp"]]
    )

    with pytest.raises(Untrusted):
        device.guard.refresh()


def test_a_device_that_was_off_meanwhile_comes_back_after_two_rotations(
    world: World, device: Device
) -> None:
    new_online_keys(world)
    world.now_ms += 30 * DAY_MS
    new_online_keys(world)
    world.publish("digits", "2")

    assert device.guard.refresh(["digits/2"]).versions["root"] == 3


def test_a_withdrawn_release_of_a_stolen_team_key_is_no_longer_trusted(
    world: World, device: Device
) -> None:
    world.publish("digits", "2")
    assert device.guard.refresh().release("digits/2").custom.counter == 2

    rotate_family(world.keys, "digits", None, ["2"], None, passphrase, world.now_ms)
    world.import_trust()
    view = device.guard.refresh()

    assert view.release("digits/1").custom.counter == 1
    with pytest.raises(Untrusted):
        view.release("digits/2")
    assert world.publish("digits", "3").custom.counter == 2


def test_a_revoked_team_key_takes_all_that_it_signed_along(world: World, device: Device) -> None:
    revoke(world.keys, "digits", passphrase, world.now_ms)
    world.import_trust()

    with pytest.raises(Untrusted):
        device.guard.refresh().release("digits/1")
    accepted = world.publish("digits", "1")
    assert device.guard.refresh().release("digits/1").digest == accepted.digest


def test_a_revocation_passes_what_the_thief_has_published_since(
    world: World, device: Device
) -> None:
    """The folder that revokes does not know of it; devices have seen its number."""
    stolen = world.directory / "stolen"
    shutil.copytree(world.keys, stolen)
    for version in ("7", "8", "9"):
        world.accept(world.signed("digits", version, keys=stolen)[0])
    assert device.guard.refresh().release("digits/9").custom.counter == 4

    published = world.repository.file("digits.json")
    revoke(world.keys, "digits", passphrase, world.now_ms, lambda _family: published)
    world.import_trust()

    with pytest.raises(Untrusted):
        device.guard.refresh(["digits/9"]).release("digits/9")
    accepted = world.publish("digits", "10")
    assert device.guard.refresh().release("digits/10").digest == accepted.digest


def test_an_expired_fleet_comes_back_when_its_roles_are_renewed(
    world: World, device: Device
) -> None:
    from converter.trust.renewal import renew

    world.now_ms += 120 * DAY_MS
    world.repository.sign_online(world.now_ms)
    with pytest.raises(StaleMetadata):
        device.guard.refresh()

    renew(world.keys, [], {}, _published(world), passphrase, world.now_ms)
    world.import_trust()

    assert device.guard.refresh(["digits/1"]).release("digits/1").custom.counter == 1


def _published(world: World) -> dict[str, bytes]:
    found = {name: world.repository.file(f"{name}.json") for name in ("digits", "words")}
    return {name: data for name, data in found.items() if data is not None}


def test_a_snapshot_key_of_a_hub_is_not_the_one_before(world: World) -> None:
    before = world.repository.hub_public_keys()
    new_online_keys(world)
    after = world.repository.hub_public_keys()

    assert not {before.snapshot, before.timestamp, before.assignment} & {
        after.snapshot,
        after.timestamp,
        after.assignment,
    }
    files = world.repository.files()
    newest = max((n for n in files if "snapshot" in n), key=lambda n: int(n.split(".")[0]))
    Metadata[Snapshot].from_bytes(files[newest])
