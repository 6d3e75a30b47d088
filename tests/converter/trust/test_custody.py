"""Keys are added, replaced and taken back, by name and on one machine."""

from __future__ import annotations

import shutil
from contextlib import suppress
from pathlib import Path

import msgspec
import pytest
from tuf.api.metadata import Metadata, Targets

from contract.errors import InvalidId
from contract.targets import HUB_KEYS_TARGET
from converter.trust.custody import (
    add_family,
    add_targets_key,
    make_key,
    revoke,
    rotate_family,
    rotate_online,
    rotate_root,
    rotate_targets,
)
from converter.trust.drafts import delegated
from converter.trust.errors import (
    BaseRefused,
    DuplicateKey,
    FamilyUnknown,
    KeyDamaged,
    KeyExists,
    KeyMissing,
    KeyUnknown,
    NothingDue,
    WeakPassphrase,
    WrongPassphrase,
)
from converter.trust.folder import private_key, read_trust
from converter.trust.keyfiles import load_key
from converter.trust.named import NamedKey
from converter.trust.names import names_of
from converter.trust.public import keep, public_file, read_named
from fleet.trust.errors import TrustRefused, VersionConflict
from fleet.trust.repository import Repository
from tests.converter.trust.holders import BEN, ben, carry, coordinator, folder_of, key_of, never
from tests.trust.ceremony import DAY_MS, PASSPHRASE, START_MS, World


def named(world: World, role: str) -> list[str]:
    """The names of a role's keys."""
    trust = read_trust(world.keys)
    names = names_of(world.keys, trust)
    if role in trust.families:
        return [names[keyid] for keyid in delegated(trust.targets)[role].keyids]
    return [names[keyid] for keyid in trust.root.roles[role].keyids]


# Adding


def test_a_family_is_added_with_a_key_made_here(world: World) -> None:
    change = add_family(world.keys, "plants", None, coordinator, world.now_ms)

    assert change.done
    assert change.created == ["key-plants-1"]
    assert "targets: a new family plants" in change.changes
    world.import_trust()
    assert world.publish("plants", "1").custom.counter == 1


def test_a_family_is_delegated_its_own_folder_alone_and_for_good(world: World) -> None:
    add_family(world.keys, "plants", None, coordinator, world.now_ms)

    role = delegated(read_trust(world.keys).targets)["plants"]
    assert (role.paths, role.terminating, role.threshold) == (["plants/*"], True, 1)


def test_a_team_signs_with_a_key_that_never_left_its_machine(world: World) -> None:
    team = make_key(folder_of(world, "ben"), "plants-team", "plant people", ben)

    change = add_family(world.keys, "plants", team, coordinator, world.now_ms)

    assert not change.done
    assert [(m.role, m.keys) for m in change.missing] == [("plants", ["plants-team"])]
    assert carry(world, "ben", BEN).done
    world.import_trust()
    with pytest.raises(KeyMissing, match="plants-team"):
        world.signed("plants", "1")
    theirs = folder_of(world, "ben")
    path = world.directory / "plants-1.bundle"
    from converter.trust.signing import sign_bundle

    sign_bundle(path, theirs, BEN, now_ms=world.now_ms)
    assert world.accept(path).custom.counter == 1


def test_a_family_that_exists_is_not_added_again(world: World) -> None:
    with pytest.raises(KeyExists, match="rotate"):
        add_family(world.keys, "digits", None, coordinator, world.now_ms)


def test_one_more_targets_key_takes_two_root_keys(world: World) -> None:
    change = add_targets_key(world.keys, None, coordinator, world.now_ms)

    assert change.signed == ["root-1", "root-2", "root-3"]
    assert named(world, "targets") == ["targets-1", "targets-2", "targets-3"]


def test_the_new_targets_key_alone_suffices(world: World) -> None:
    add_targets_key(world.keys, None, coordinator, world.now_ms)
    for name in ("targets-1", "targets-2"):
        private_key(world.keys, name).unlink()

    assert add_family(world.keys, "plants", None, coordinator, world.now_ms).done
    world.import_trust()
    assert world.repository.versions()["plants"] == 1


# Replacing


def test_a_root_key_is_replaced_by_a_holder_s(world: World) -> None:
    change = rotate_root(
        world.keys, ["root-2"], [key_of(world, "ben", BEN)], coordinator, world.now_ms
    )

    assert change.done
    assert named(world, "root") == ["root-1", "root-3", "root-ben"]
    world.import_trust()
    assert world.repository.versions()["root"] == 2


def test_an_old_root_key_signs_nothing_any_more(world: World) -> None:
    rotate_root(world.keys, ["root-2"], [], coordinator, world.now_ms)
    for name in ("root-1", "root-4"):
        private_key(world.keys, name).rename(world.directory / name)

    change = rotate_root(
        world.keys, ["root-3"], [key_of(world, "ben", BEN)], coordinator, world.now_ms
    )

    assert change.signed == ["root-3"]
    assert not change.done


@pytest.mark.parametrize("old", [[], ["root-9"], ["root-1", "root-1"], ["targets-1"]])
def test_the_root_key_that_goes_has_to_be_one(world: World, old: list[str]) -> None:
    with pytest.raises(KeyUnknown):
        rotate_root(world.keys, old, [], coordinator, world.now_ms)
    assert read_trust(world.keys).root.version == 1


def test_a_replaced_targets_key_takes_its_signature_along(world: World) -> None:
    world.publish("digits", "1")
    rotate_targets(world.keys, "targets-1", None, coordinator, world.now_ms)

    assert named(world, "targets") == ["targets-2", "targets-3"]
    world.import_trust()
    assert world.repository.versions()["targets"] == 2
    assert world.publish("digits", "2").custom.counter == 2


def test_a_rotated_family_key_keeps_the_releases(world: World) -> None:
    world.publish("digits", "1")
    rotate_family(world.keys, "digits", None, [], None, coordinator, world.now_ms)
    world.import_trust()

    assert named(world, "digits") == ["key-digits-1"]
    assert world.repository.release("digits/1")[1].counter == 1
    assert world.publish("digits", "2").custom.counter == 2


def test_the_old_family_key_signs_nothing_that_the_hub_takes(world: World) -> None:
    thief = shutil.copytree(world.keys, world.directory / "stolen")
    rotate_family(world.keys, "digits", None, [], None, coordinator, world.now_ms)
    world.import_trust()
    path, _ = world.signed("digits", "9", keys=thief)

    with pytest.raises((TrustRefused, VersionConflict)):
        world.accept(path)


def test_a_rotation_goes_on_from_what_the_hub_has_published(world: World) -> None:
    other = shutil.copytree(world.keys, world.directory / "keys-2")
    world.accept(world.signed("digits", "1", keys=other)[0])
    published = world.repository.file("digits.json")

    rotate_family(world.keys, "digits", None, [], published, coordinator, world.now_ms)
    world.import_trust()

    assert world.repository.release("digits/1")[1].counter == 1
    assert world.repository.versions()["digits"] == 3


def test_what_a_stranger_says_was_published_is_not_built_upon(world: World) -> None:
    with pytest.raises(BaseRefused):
        rotate_family(
            world.keys,
            "digits",
            None,
            [],
            world.repository.file("words.json"),
            coordinator,
            world.now_ms,
        )


def test_a_release_that_is_not_there_cannot_be_withdrawn(world: World) -> None:
    with pytest.raises(KeyUnknown, match="digits/7"):
        rotate_family(world.keys, "digits", None, ["7"], None, coordinator, world.now_ms)


def test_a_family_that_is_not_there_cannot_be_rotated(world: World) -> None:
    with pytest.raises(FamilyUnknown, match="keys add"):
        rotate_family(world.keys, "plants", None, [], None, coordinator, world.now_ms)


def test_new_online_keys_stand_in_root_and_policy(world: World) -> None:
    other = Repository(world.directory / "other" / "tuf")
    other.create_online_keys()
    hub = other.hub_public_keys()

    change = rotate_online(world.keys, hub, coordinator, world.now_ms)

    trust = read_trust(world.keys)
    assert change.done
    assert "targets: another key may sign assignments and commands" in change.changes
    for role, public in (("snapshot", hub.snapshot), ("timestamp", hub.timestamp)):
        keys = [trust.root.keys[keyid] for keyid in trust.root.roles[role].keyids]
        assert [key.keyval["public"] for key in keys] == [public]
    assert trust.targets.targets[HUB_KEYS_TARGET].custom["keys"] == [hub.assignment]


def test_an_offline_key_does_not_become_an_online_one(world: World) -> None:
    root = load_key(private_key(world.keys, "root-1"), PASSPHRASE).public_key.keyval["public"]
    hub = world.repository.hub_public_keys()
    mixed = type(hub)(snapshot=root, timestamp=hub.timestamp, assignment=hub.assignment)

    with pytest.raises(DuplicateKey):
        rotate_online(world.keys, mixed, coordinator, world.now_ms)


def test_the_hub_s_present_keys_are_no_rotation(world: World) -> None:
    ours = world.repository.hub_public_keys()
    other = Repository(world.directory / "other" / "tuf")
    other.create_online_keys()
    new = other.hub_public_keys()

    with pytest.raises(NothingDue, match="these are the hub's keys already; run `outrider hub new"):
        rotate_online(world.keys, ours, never, world.now_ms)
    for kept in ("snapshot", "timestamp", "assignment"):
        mixed = msgspec.structs.replace(new, **{kept: getattr(ours, kept)})
        with pytest.raises(NothingDue, match="1 of these"):
            rotate_online(world.keys, mixed, never, world.now_ms)
    assert read_trust(world.keys).versions()["root"] == 1


# A rotation never leaves a role with fewer keys


def keys_of_roles(world: World) -> dict[str, set[str]]:
    """Role -> ids of its keys."""
    trust = read_trust(world.keys)
    families = {name: set(role.keyids) for name, role in delegated(trust.targets).items()}
    return families | {role: set(each.keyids) for role, each in trust.root.roles.items()}


@pytest.mark.parametrize("new", ["root-1", "root-2", "targets-1", "family-digits", "root-ben"])
@pytest.mark.parametrize("role", ["root", "targets", "digits"])
def test_no_rotation_lowers_the_number_of_keys_of_a_role(world: World, role: str, new: str) -> None:
    before = keys_of_roles(world)
    key_of(world, "ben", BEN)
    directory = folder_of(world, "ben") if new == "root-ben" else world.keys
    given = read_named(public_file(directory, new))

    with suppress(KeyExists, DuplicateKey):
        if role == "root":
            rotate_root(world.keys, ["root-2"], [given], coordinator, world.now_ms)
        elif role == "targets":
            rotate_targets(world.keys, "targets-2", given, coordinator, world.now_ms)
        else:
            rotate_family(world.keys, role, given, [], None, coordinator, world.now_ms)
            assert carry(world, "ben", BEN).done

    after = keys_of_roles(world)
    assert {r: len(ids) for r, ids in after.items()} == {r: len(i) for r, i in before.items()}
    assert (after == before) == (new != "root-ben")


def test_a_key_does_not_take_the_place_of_another_in_its_own_role(world: World) -> None:
    root, targets, family = (
        read_named(public_file(world.keys, name))
        for name in ("root-1", "targets-1", "family-digits")
    )
    with pytest.raises(KeyExists, match=r"root-1 \(\w{12}\) is a root key already"):
        rotate_root(world.keys, ["root-2"], [root], never, world.now_ms)
    with pytest.raises(KeyExists, match="is a targets key already"):
        rotate_targets(world.keys, "targets-2", targets, never, world.now_ms)
    with pytest.raises(KeyExists, match="is a targets key already"):
        add_targets_key(world.keys, targets, never, world.now_ms)
    with pytest.raises(KeyExists, match="is the key of family digits already"):
        rotate_family(world.keys, "digits", family, [], None, never, world.now_ms)


def test_one_new_key_does_not_take_two_places(world: World) -> None:
    new = key_of(world, "ben", BEN)

    with pytest.raises(KeyExists, match="root-ben"):
        rotate_root(world.keys, ["root-2", "root-3"], [new, new], never, world.now_ms)
    assert not public_file(world.keys, "root-ben").exists()


# Taking back


def test_a_revoked_targets_key_is_gone_and_the_other_signs(world: World) -> None:
    change = revoke(world.keys, "targets-1", coordinator, world.now_ms)

    assert change.done
    assert named(world, "targets") == ["targets-2"]
    world.import_trust()


def test_the_last_targets_key_is_not_revoked(world: World) -> None:
    revoke(world.keys, "targets-1", coordinator, world.now_ms)

    with pytest.raises(KeyUnknown, match="add another one first"):
        revoke(world.keys, "targets-2", coordinator, world.now_ms)


def test_a_root_key_is_replaced_not_revoked(world: World) -> None:
    with pytest.raises(KeyUnknown, match="rotate"):
        revoke(world.keys, "root-2", coordinator, world.now_ms)


@pytest.mark.parametrize("name", ["digits", "family-digits"])
def test_a_revoked_family_has_no_release_and_another_key(world: World, name: str) -> None:
    world.publish("digits", "1")

    revoke(world.keys, name, coordinator, world.now_ms)

    trust = read_trust(world.keys)
    assert trust.families["digits"].targets == {}
    assert trust.families["digits"].version == 3
    assert named(world, "digits") == ["key-digits-1"]


def test_counters_start_at_the_floor_when_all_releases_were_withdrawn(world: World) -> None:
    from converter.trust.renewal import renew

    for version in ("1", "2", "3"):
        world.publish("digits", version)
    renew(world.keys, [], {"digits": 3}, {}, coordinator, world.now_ms)
    revoke(world.keys, "digits", coordinator, world.now_ms)
    world.import_trust()

    assert world.publish("digits", "4").custom.counter == 3


# Keys and names


def test_one_key_for_two_roles_is_refused(world: World) -> None:
    ours = read_named(public_file(world.keys, "family-digits"))

    with pytest.raises(DuplicateKey):
        add_targets_key(world.keys, ours, coordinator, world.now_ms)
    with pytest.raises(DuplicateKey):
        add_family(world.keys, "plants", ours, coordinator, world.now_ms)
    with pytest.raises(DuplicateKey):
        rotate_family(world.keys, "words", ours, [], None, coordinator, world.now_ms)


def test_a_public_file_that_was_altered_is_refused(world: World) -> None:
    key_of(world, "ben", BEN)
    path = public_file(folder_of(world, "ben"), "root-ben")
    path.write_bytes(path.read_bytes().replace(b"3rd floor", b"4th floor"))

    with pytest.raises(KeyDamaged, match="altered"):
        read_named(path)


@pytest.mark.parametrize("data", [b"", b"[]", b'{"name": "x"}', b"{" * 5_000])
def test_a_file_that_is_no_public_key_is_refused(world: World, data: bytes) -> None:
    path = world.directory / "x.json"
    path.write_bytes(data)

    with pytest.raises(KeyDamaged, match=r"x\.json"):
        read_named(path)


def test_two_keys_of_one_name_are_told_apart(world: World) -> None:
    first = key_of(world, "ben", BEN)
    other = make_key(world.directory / "elsewhere", "root-ben", "", ben)
    keep(world.keys, first)

    with pytest.raises(KeyExists, match="root-ben"):
        keep(world.keys, other)


def test_a_key_is_not_made_over_another(world: World) -> None:
    key_of(world, "ben", BEN)

    with pytest.raises(KeyExists):
        make_key(folder_of(world, "ben"), "root-ben", "", ben)


def test_a_short_passphrase_makes_no_key(world: World) -> None:
    with pytest.raises(WeakPassphrase):
        make_key(world.directory / "new", "root-ben", "", lambda: b"short")
    assert not private_key(world.directory / "new", "root-ben").exists()


def test_no_key_is_made_under_a_mistyped_passphrase(world: World) -> None:
    with pytest.raises(WrongPassphrase):
        add_family(world.keys, "plants", None, ben, world.now_ms)

    assert not private_key(world.keys, "key-plants-1").exists()
    assert add_family(world.keys, "plants", None, coordinator, world.now_ms).done


def test_the_public_file_holds_nothing_secret(world: World) -> None:
    key = key_of(world, "ben", BEN)
    data = public_file(folder_of(world, "ben"), "root-ben").read_bytes()

    assert isinstance(key, NamedKey)
    assert b"PRIVATE" not in data
    assert key.holder == "ben, 3rd floor"


def test_a_folder_from_before_public_files_is_named_by_order(world: World) -> None:
    shutil.rmtree(world.keys / "public")

    assert named(world, "root") == ["root-1", "root-2", "root-3"]
    change = rotate_targets(world.keys, "targets-1", None, coordinator, world.now_ms)
    assert change.created == ["targets-3"]
    assert world.signed("digits", "1")[1].counter == 1


def test_every_change_gives_a_new_term(world: World) -> None:
    world.now_ms += 50 * DAY_MS
    rotate_family(world.keys, "digits", None, [], None, coordinator, world.now_ms)

    path = world.keys / "metadata" / "2.digits.json"
    expires = Metadata[Targets].from_bytes(path.read_bytes()).signed.expires
    assert expires.timestamp() * 1000 == START_MS + 140 * DAY_MS


def test_no_passphrase_is_asked_for_what_is_refused_before(world: World) -> None:
    with pytest.raises(KeyUnknown):
        rotate_targets(world.keys, "targets-9", None, never, world.now_ms)


@pytest.mark.parametrize("name", ["bad name", "../up", "", "Ben"])
def test_a_key_s_name_is_checked_before_anything_is_made(tmp_path: Path, name: str) -> None:
    with pytest.raises(InvalidId, match="use 1 to 63 of a-z"):
        make_key(tmp_path / "keys", name, "", lambda: b"long enough")
    assert list(tmp_path.iterdir()) == []
