"""What expires is signed again in time, floors rise, and the listing says what is due."""

from __future__ import annotations

import shutil

import pytest

from contract.trust import FAMILY_LIFETIME_MS, LIFETIME_MS
from converter.trust.custody import add_targets_key, make_key, revoke, rotate_root
from converter.trust.drafts import floor_of
from converter.trust.errors import FamilyUnknown, FloorRefused, KeysNotFound, NothingDue
from converter.trust.folder import private_key, read_trust
from converter.trust.listing import list_keys
from converter.trust.renewal import due, expiries, renew
from tests.converter.trust.holders import (
    BEN,
    ben,
    coordinator,
    key_of,
    never,
)
from tests.trust.ceremony import DAY_MS, START_MS, World


def test_nothing_is_due_in_a_new_fleet(world: World) -> None:
    assert due(read_trust(world.keys), world.now_ms) == []
    with pytest.raises(NothingDue, match="name the roles"):
        renew(world.keys, [], {}, {}, never, world.now_ms)


@pytest.mark.parametrize(
    ("days", "roles"),
    [
        (68, []),
        (69, ["targets"]),
        (76, ["targets", "digits", "words"]),
        (335, ["root", "targets", "digits", "words"]),
    ],
)
def test_roles_are_due_before_they_expire(world: World, days: int, roles: list[str]) -> None:
    assert due(read_trust(world.keys), START_MS + days * DAY_MS) == roles


def test_what_is_due_is_renewed_and_nothing_else(world: World) -> None:
    world.now_ms += 70 * DAY_MS

    change = renew(world.keys, [], {}, {}, coordinator, world.now_ms)

    assert change.purpose == "renew targets"
    assert read_trust(world.keys).versions() == {"root": 1, "targets": 2, "digits": 1, "words": 1}
    assert expiries(read_trust(world.keys))["targets"] == world.now_ms + LIFETIME_MS["targets"]


def test_the_hub_takes_what_was_renewed(world: World) -> None:
    world.publish("digits", "1")
    world.now_ms += 340 * DAY_MS

    renew(world.keys, [], {}, {}, coordinator, world.now_ms)
    world.import_trust()

    ends = world.repository.expiries()
    assert ends["root"] == world.now_ms + LIFETIME_MS["root"]
    assert ends["digits"] == world.now_ms + FAMILY_LIFETIME_MS
    assert world.repository.release("digits/1")[1].counter == 1


def test_a_family_is_renewed_with_what_the_hub_has_published(world: World) -> None:
    other = shutil.copytree(world.keys, world.directory / "keys-2")
    world.accept(world.signed("digits", "1", keys=other)[0])
    published = world.repository.file("digits.json")
    assert published is not None
    world.now_ms += 80 * DAY_MS

    renew(world.keys, ["digits"], {}, {"digits": published}, coordinator, world.now_ms)
    world.import_trust()

    assert world.repository.versions()["digits"] == 3
    assert world.repository.release("digits/1")[1].counter == 1
    assert world.repository.expiries()["digits"] == world.now_ms + FAMILY_LIFETIME_MS


def test_a_floor_rises_and_stays(world: World) -> None:
    for version in ("1", "2", "3"):
        world.publish("digits", version)

    change = renew(world.keys, [], {"digits": 2}, {}, coordinator, world.now_ms)

    assert (
        "targets: releases of digits below counter 2 may not be installed again" in change.changes
    )
    assert floor_of(read_trust(world.keys).targets, "digits") == 2
    with pytest.raises(FloorRefused, match="never lower"):
        renew(world.keys, [], {"digits": 1}, {}, coordinator, world.now_ms)


def test_a_floor_that_would_bar_every_release_is_refused(world: World) -> None:
    world.publish("digits", "1")

    with pytest.raises(FloorRefused, match="refuse every one"):
        renew(world.keys, [], {"digits": 2}, {}, coordinator, world.now_ms)


@pytest.mark.parametrize(("roles", "floors"), [(["plants"], {}), ([], {"plants": 0})])
def test_a_family_that_is_not_there_is_not_renewed(
    world: World, roles: list[str], floors: dict[str, int]
) -> None:
    with pytest.raises(FamilyUnknown):
        renew(world.keys, roles, floors, {}, coordinator, world.now_ms)


# The listing


def test_the_listing_says_who_holds_what(world: World) -> None:
    rotate_root(world.keys, ["root-2"], [key_of(world, "ben", BEN)], coordinator, world.now_ms)
    private_key(world.keys, "root-3").unlink()

    found = list_keys(world.keys, world.now_ms)
    rows = {row.role: row for row in found.roles}

    assert list(rows) == [
        "root",
        "targets",
        "digits",
        "words",
        "snapshot",
        "timestamp",
        "assignment",
    ]
    assert (rows["root"].threshold, rows["root"].version) == (2, 2)
    assert [(key.name, key.here) for key in rows["root"].keys] == [
        ("root-1", True),
        ("root-3", False),
        ("root-ben", False),
    ]
    assert rows["root"].keys[2].holder == "ben, 3rd floor"
    assert (rows["digits"].floor, rows["digits"].releases) == (0, 0)
    assert found.unused == ["root-2"]
    assert found.pending is None


def test_the_listing_warns_in_time_and_after(world: World) -> None:
    assert list_keys(world.keys, START_MS).warnings == []

    before = list_keys(world.keys, START_MS + 340 * DAY_MS).warnings

    assert any("root expires in 25 days: outrider keys renew" in line for line in before)
    assert any("targets has expired" in line for line in before)


def test_the_listing_warns_of_a_last_targets_key(world: World) -> None:
    revoke(world.keys, "targets-1", coordinator, world.now_ms)

    assert "outrider keys add" in "".join(list_keys(world.keys, world.now_ms).warnings)


def test_the_listing_names_a_change_that_waits_and_not_its_key_as_unused(world: World) -> None:
    for name in ("root-2", "root-3"):
        private_key(world.keys, name).unlink()
    add_targets_key(world.keys, None, coordinator, world.now_ms)
    found = list_keys(world.keys, world.now_ms)

    assert found.pending == "add a targets key"


def test_a_holder_s_folder_that_knows_no_root_has_nothing_to_list(world: World) -> None:
    make_key(world.directory / "mine", "root-ben", "", ben)

    with pytest.raises(KeysNotFound):
        list_keys(world.directory / "mine", world.now_ms)
