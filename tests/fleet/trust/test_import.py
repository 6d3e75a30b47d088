"""The hub takes over a trust.json: the first by hand, later ones by TUF's own rules."""

from __future__ import annotations

import shutil
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from securesystemslib.signer import SSlibKey

from contract.trust import decode_trust, encode_trust
from converter.trust.custody import rotate_family
from converter.trust.keys import init_keys
from converter.trust.renewal import renew
from fleet.errors import TrustMissing
from fleet.trust.errors import (
    MetadataDamaged,
    OnlineKeysDamaged,
    TrustForAnotherHub,
    TrustRefused,
    VersionConflict,
)
from fleet.trust.repository import Repository
from tests.trust.ceremony import PASSPHRASE, START_MS, World
from tests.trust.forgery import bump, forge, offline, stranger


def trust_files(world: World) -> dict[str, bytes]:
    """What the keys folder would hand over."""
    return decode_trust((world.keys / "trust.json").read_bytes())


def new_hub(world: World) -> Repository:
    """The same hub's keys, without any trust yet."""
    return Repository(world.directory / "fresh" / "tuf", world.repository.keys)


def test_the_first_import_puts_every_role_in_force(world: World) -> None:
    hub = new_hub(world)

    versions = hub.import_trust((world.keys / "trust.json").read_bytes())

    assert versions == {"root": 1, "targets": 1, "digits": 1, "words": 1}
    assert set(hub.files()) == set(trust_files(world))


def test_importing_the_same_again_changes_nothing(world: World) -> None:
    before = world.repository.files()

    world.import_trust()

    assert world.repository.files() == before


def test_before_the_first_import_there_is_nothing_to_publish(world: World) -> None:
    hub = new_hub(world)

    assert hub.files() == {}
    assert hub.expiries() == {}
    assert hub.versions() == {}
    assert hub.index(START_MS).files == {}
    assert hub.sign_online(START_MS) is False
    with pytest.raises(TrustMissing, match="keys init"):
        hub.release("digits/1")


def test_a_family_that_was_added_later_is_taken_over(world: World) -> None:
    world.publish("digits", "1")
    world.init_keys("plants")

    world.import_trust()

    assert world.repository.versions()["plants"] == 1
    assert world.repository.release("digits/1")[1].counter == 1
    assert world.publish("plants", "1").version == 2


def test_an_older_trust_file_takes_nothing_back(world: World) -> None:
    old = (world.keys / "trust.json").read_bytes()
    world.init_keys("plants")
    world.import_trust()
    world.publish("digits", "1")
    before = world.repository.versions()

    world.repository.import_trust(old)

    assert world.repository.versions() == before


# Refusals


def refused(hub: Repository, files: dict[str, bytes], kind: type[Exception] = TrustRefused) -> None:
    """Refused, and nothing was written."""
    before = hub.files()
    with pytest.raises(kind):
        hub.import_trust(encode_trust(files))
    assert hub.files() == before


Change = Callable[[Any], object]


def one_root_key(root: Any) -> None:
    root.roles["root"].threshold = 1


def duplicate_root_key(root: Any) -> None:
    key = root.keys[root.roles["root"].keyids[0]]
    root.add_key(SSlibKey("d" * 64, key.keytype, key.scheme, key.keyval), "root")


def one_key_in_two_roles(root: Any) -> None:
    root.add_key(root.keys[root.roles["root"].keyids[0]], "targets")


def one_key_in_two_roles_by_another_name(root: Any) -> None:
    key = root.keys[root.roles["timestamp"].keyids[0]]
    root.add_key(SSlibKey("d" * 64, key.keytype, key.scheme, key.keyval), "targets")


def no_targets_key(root: Any) -> None:
    root.roles["targets"].keyids.clear()


def inconsistent(root: Any) -> None:
    root.consistent_snapshot = False


@pytest.mark.parametrize(
    "change",
    [
        one_root_key,
        duplicate_root_key,
        one_key_in_two_roles,
        one_key_in_two_roles_by_another_name,
        no_targets_key,
        inconsistent,
    ],
)
def test_a_root_that_would_weaken_the_fleet_is_refused(world: World, change: Change) -> None:
    files = trust_files(world)
    files["1.root.json"] = forge(files["1.root.json"], change, offline(world, "root-1", "root-2"))

    refused(new_hub(world), files)


def test_a_root_with_one_signature_is_refused(world: World) -> None:
    files = trust_files(world)
    files["1.root.json"] = forge(files["1.root.json"], lambda s: None, offline(world, "root-1"))

    refused(new_hub(world), files)


def test_another_root_cannot_replace_the_first(world: World) -> None:
    other = World(world.directory / "other")
    other.repository.create_online_keys()
    init_keys(other.keys, ["digits"], world.repository.hub_public_keys(), PASSPHRASE, START_MS)

    refused(world.repository, trust_files(other))


def test_the_next_root_must_be_signed_by_the_one_before(world: World) -> None:
    files = trust_files(world)
    files["2.root.json"] = forge(files["1.root.json"], bump, [stranger(), stranger()])

    refused(world.repository, files)


def test_the_next_root_is_taken_when_two_root_keys_signed(world: World) -> None:
    files = trust_files(world)
    files["2.root.json"] = forge(files["1.root.json"], bump, offline(world, "root-2", "root-3"))

    assert world.repository.import_trust(encode_trust(files))["root"] == 2
    assert "2.root.json" in world.repository.files()


def wide_delegation(targets: Any) -> None:
    bump(targets)
    targets.delegations.roles["digits"].paths = ["*/*"]


def reserved_family(targets: Any) -> None:
    bump(targets)
    roles = targets.delegations.roles
    roles["digits"].name = "policy"
    roles["policy"] = roles.pop("digits")


def not_terminating(targets: Any) -> None:
    bump(targets)
    targets.delegations.roles["digits"].terminating = False


def no_hub_keys(targets: Any) -> None:
    bump(targets)
    del targets.targets["policy/hub-keys"]


def odd_policy(targets: Any) -> None:
    bump(targets)
    targets.targets["policy/digits"].unrecognized_fields["custom"] = {"min_counter": -1}


def unknown_family(targets: Any) -> None:
    bump(targets)
    role = targets.delegations.roles["digits"]
    targets.delegations.roles["plants"] = type(role)(
        "plants", list(role.keyids), 1, True, ["plants/*"]
    )


@pytest.mark.parametrize(
    "change",
    [
        wide_delegation,
        reserved_family,
        not_terminating,
        no_hub_keys,
        odd_policy,
        unknown_family,
    ],
)
def test_targets_of_a_form_that_devices_must_not_see_are_refused(
    world: World, change: Change
) -> None:
    files = trust_files(world)
    files["2.targets.json"] = forge(files["1.targets.json"], change, offline(world, "targets-1"))

    refused(world.repository, files)


def test_a_family_key_cannot_sign_targets(world: World) -> None:
    files = trust_files(world)
    files["2.targets.json"] = forge(files["1.targets.json"], bump, offline(world, "family-digits"))

    refused(world.repository, files)


def test_a_file_under_another_version_s_name_is_refused(world: World) -> None:
    files = trust_files(world)
    files["7.targets.json"] = files.pop("1.targets.json")

    refused(world.repository, files)


def test_two_targets_of_one_version_are_a_conflict(world: World) -> None:
    def other(targets: Any) -> None:
        targets.expires = targets.expires.replace(year=targets.expires.year + 1)

    files = trust_files(world)
    files["1.targets.json"] = forge(files["1.targets.json"], other, offline(world, "targets-1"))

    refused(world.repository, files, VersionConflict)


def test_trust_for_another_hub_is_refused(world: World) -> None:
    other = Repository(world.directory / "other" / "tuf")
    other.create_online_keys()

    refused(other, trust_files(world), TrustForAnotherHub)


@pytest.mark.parametrize("data", [b"", b"{}", b'{"files": {"1.root.json": "?"}}'])
def test_a_file_that_is_no_trust_file_is_refused(world: World, data: bytes) -> None:
    with pytest.raises(TrustRefused):
        world.repository.import_trust(data)


@pytest.mark.parametrize("name", ["1.root.json", "1.targets.json", "1.digits.json"])
def test_a_trust_file_that_lacks_a_role_is_refused(world: World, name: str) -> None:
    files = trust_files(world)
    del files[name]

    refused(new_hub(world), files)


# The hub's own directory


def test_online_keys_are_for_the_hub_alone_and_never_written_over(world: World) -> None:
    keys = world.repository.keys
    before = {path.name: path.read_bytes() for path in keys.iterdir()}

    assert world.repository.create_online_keys() == []

    assert {path.name: path.read_bytes() for path in keys.iterdir()} == before
    assert set(before) == {"snapshot.pem", "timestamp.pem", "assignment.pem"}
    assert stat.S_IMODE(keys.stat().st_mode) == 0o700
    assert all(stat.S_IMODE(path.stat().st_mode) == 0o600 for path in keys.iterdir())


@pytest.mark.parametrize("content", [None, b"", b"-----BEGIN PRIVATE KEY-----"])
def test_a_lost_or_damaged_online_key_is_named(world: World, content: bytes | None) -> None:
    path = world.repository.keys / "assignment.pem"
    path.unlink() if content is None else path.write_bytes(content)

    with pytest.raises(OnlineKeysDamaged, match=r"assignment\.pem"):
        world.repository.assignment_key()


def test_an_online_key_that_root_does_not_name_signs_nothing(world: World) -> None:
    (world.repository.keys / "timestamp.pem").unlink()
    world.repository.create_online_keys()
    before = world.repository.files()

    with pytest.raises(OnlineKeysDamaged, match="root"):
        world.repository.sign_online(START_MS + 10 * 3_600_000)
    assert world.repository.files() == before


def test_a_damaged_directory_is_said_to_be_damaged(world: World) -> None:
    (world.repository.directory / "1.digits.json").write_bytes(b"{}")

    with pytest.raises(MetadataDamaged, match="backup"):
        world.repository.files()


def test_a_new_family_key_does_not_start_the_family_s_numbers_again(
    world: World, tmp_path: Path
) -> None:
    """Devices would refuse them, and one file would stand for two: the folder that signed lacks
    what another one has published."""
    behind = tmp_path / "behind"
    shutil.copytree(world.keys, behind)
    world.publish("digits", "1")
    world.publish("digits", "2")
    before = world.repository.files()
    rotate_family(behind, "digits", None, [], None, lambda: PASSPHRASE, world.now_ms)

    with pytest.raises(VersionConflict, match="digits"):
        world.repository.import_trust((behind / "trust.json").read_bytes())

    assert world.repository.files() == before

    # The message's advice, where no hub can be asked.
    renew(behind, ["digits"], {}, {}, lambda: PASSPHRASE, world.now_ms)
    renew(behind, ["digits"], {}, {}, lambda: PASSPHRASE, world.now_ms)
    assert world.repository.import_trust((behind / "trust.json").read_bytes())["digits"] == 4
