"""The key ceremony: what it makes, that it can be repeated, and what it refuses."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from tuf.api.metadata import Metadata, Root, Targets

from contract.errors import InvalidId
from contract.trust import HubPublicKeys, decode_trust
from converter.trust.errors import (
    DuplicateKey,
    KeyDamaged,
    KeyMissing,
    KeysNotFound,
    MetadataDamaged,
    OtherHub,
    WeakPassphrase,
    WrongPassphrase,
)
from converter.trust.folder import private_key, read_trust
from converter.trust.keyfiles import load_key, make_key
from converter.trust.keys import init_keys
from converter.trust.metadata import delegate, new_root, new_targets
from tests.trust.ceremony import DAY_MS, PASSPHRASE, START_MS, World


def tree(directory: Path) -> dict[str, bytes]:
    """Every file and its bytes."""
    return {str(p.relative_to(directory)): p.read_bytes() for p in directory.rglob("*.*")}


def test_the_root_needs_two_of_three_keys_and_targets_one_of_two(world: World) -> None:
    root = read_trust(world.keys).root

    assert (root.roles["root"].threshold, len(root.roles["root"].keyids)) == (2, 3)
    assert (root.roles["targets"].threshold, len(root.roles["targets"].keyids)) == (1, 2)
    assert root.consistent_snapshot


def test_each_family_s_key_may_sign_its_own_folder_alone(world: World) -> None:
    delegations = read_trust(world.keys).targets.delegations

    assert delegations is not None
    assert delegations.roles is not None
    assert list(delegations.roles) == ["digits", "words"]
    for family, role in delegations.roles.items():
        assert (role.paths, role.terminating, role.threshold) == ([f"{family}/*"], True, 1)
    assert len(delegations.keys) == 2


def test_the_roles_expire_as_designed(world: World) -> None:
    trust = read_trust(world.keys)
    now = START_MS / 1000

    assert trust.root.expires.timestamp() == now + 365 * DAY_MS / 1000
    for signed in (trust.targets, *trust.families.values()):
        assert signed.expires.timestamp() == now + 90 * DAY_MS / 1000


def test_the_policies_name_the_hub_s_key_and_a_floor_of_zero(world: World) -> None:
    targets = read_trust(world.keys).targets.targets
    hub = world.repository.hub_public_keys()

    assert targets["policy/hub-keys"].custom == {"keys": [hub.assignment], "schema": 1}
    assert targets["policy/digits"].custom == {"min_counter": 0, "schema": 1}


def test_private_keys_are_encrypted_and_for_their_owner_alone(world: World) -> None:
    assert stat.S_IMODE(world.keys.stat().st_mode) == 0o700
    pems = list((world.keys / "private").iterdir())

    assert len(pems) == 7
    for pem in pems:
        assert stat.S_IMODE(pem.stat().st_mode) == 0o600
        with pytest.raises(TypeError, match="encrypted"):
            load_pem_private_key(pem.read_bytes(), None)


def test_the_trust_file_holds_signed_metadata_and_nothing_secret(world: World) -> None:
    files = decode_trust((world.keys / "trust.json").read_bytes())

    assert set(files) == {"1.root.json", "1.targets.json", "1.digits.json", "1.words.json"}
    assert b"PRIVATE" not in b"".join(files.values())
    Metadata[Root].from_bytes(files["1.root.json"])


def test_a_second_ceremony_changes_nothing(world: World) -> None:
    before = tree(world.keys)
    world.now_ms += 5 * DAY_MS

    summary = world.init_keys("digits", "words")

    assert summary.created == []
    assert tree(world.keys) == before


def test_a_family_added_later_gets_a_key_and_the_next_targets(world: World) -> None:
    world.now_ms += 5 * DAY_MS

    summary = world.init_keys("plants")

    assert summary.created == ["family-plants"]
    assert summary.families == ["digits", "plants", "words"]
    assert summary.versions == {"root": 1, "targets": 2, "digits": 1, "plants": 1, "words": 1}
    assert "2.targets.json" in decode_trust(summary.trust_file.read_bytes())


def test_a_ceremony_that_was_cut_short_is_finished_by_the_next(world: World) -> None:
    hub = world.repository.hub_public_keys()
    cut = world.directory / "cut"
    (cut / "private").mkdir(parents=True)
    kept = make_key(private_key(cut, "root-1"), PASSPHRASE)

    summary = init_keys(cut, ["digits"], hub, PASSPHRASE, START_MS)

    assert "root-1" not in summary.created
    assert kept.public_key.keyid in read_trust(cut).root.roles["root"].keyids


def test_adding_a_family_that_was_cut_short_is_finished_by_the_next(world: World) -> None:
    world.init_keys("plants")
    (world.keys / "metadata" / "2.targets.json").unlink()
    (world.keys / "trust.json").unlink()

    summary = world.init_keys("plants")

    assert summary.created == []
    assert summary.versions["targets"] == 2


def test_offline_keys_that_are_kept_elsewhere_are_not_made_anew(world: World) -> None:
    for name in ("root-1", "root-2", "root-3", "targets-1"):
        private_key(world.keys, name).unlink()

    summary = world.init_keys("plants")

    assert summary.created == ["family-plants"]
    assert not private_key(world.keys, "root-1").exists()


def test_a_new_family_needs_a_targets_key(world: World) -> None:
    for name in ("targets-1", "targets-2"):
        private_key(world.keys, name).unlink()
    before = tree(world.keys)

    with pytest.raises(KeyMissing, match="targets-1"):
        world.init_keys("plants")
    assert tree(world.keys) == before


def test_a_wrong_passphrase_is_named_in_one_line_and_changes_nothing(world: World) -> None:
    before = tree(world.keys)

    with pytest.raises(WrongPassphrase, match=r"targets-1\.pem") as caught:
        init_keys(
            world.keys,
            ["plants"],
            world.repository.hub_public_keys(),
            b"wrong horse",
            START_MS,
        )
    assert "\n" not in str(caught.value)
    assert tree(world.keys) == before


def test_a_short_passphrase_makes_no_key(world: World, tmp_path: Path) -> None:
    with pytest.raises(WeakPassphrase):
        init_keys(
            tmp_path / "k", ["digits"], world.repository.hub_public_keys(), b"short", START_MS
        )
    assert not (tmp_path / "k").exists()


@pytest.mark.parametrize("family", ["root", "timestamp", "policy", "hub-keys", "Digits", "a/b", ""])
def test_a_name_that_tuf_or_a_policy_has_is_no_family(
    world: World, tmp_path: Path, family: str
) -> None:
    with pytest.raises(InvalidId):
        init_keys(
            tmp_path / "k", [family], world.repository.hub_public_keys(), PASSPHRASE, START_MS
        )
    assert not (tmp_path / "k").exists()


def test_keys_of_another_hub_are_refused(world: World) -> None:
    hub = world.repository.hub_public_keys()
    other = HubPublicKeys(snapshot=hub.timestamp, timestamp=hub.snapshot, assignment=hub.assignment)

    with pytest.raises(OtherHub):
        init_keys(world.keys, ["digits"], other, PASSPHRASE, START_MS)


def test_one_key_under_two_names_is_refused(world: World, tmp_path: Path) -> None:
    directory = tmp_path / "k"
    (directory / "private").mkdir(parents=True)
    make_key(private_key(directory, "root-1"), PASSPHRASE)
    copy = private_key(directory, "root-1").read_bytes()
    private_key(directory, "root-2").write_bytes(copy)

    with pytest.raises(DuplicateKey, match="count"):
        init_keys(directory, ["digits"], world.repository.hub_public_keys(), PASSPHRASE, START_MS)
    assert not (directory / "metadata" / "1.root.json").exists()


def test_one_key_for_two_families_is_refused(world: World) -> None:
    targets = new_targets(world.repository.hub_public_keys(), START_MS)
    key = load_key(private_key(world.keys, "family-digits"), PASSPHRASE).public_key
    alias = type(key)("f" * 64, key.keytype, key.scheme, key.keyval)
    delegate(targets, "digits", key)

    with pytest.raises(DuplicateKey):
        delegate(targets, "words", alias)


def test_one_key_file_copied_to_another_family_is_refused(world: World) -> None:
    source = private_key(world.keys, "family-digits")
    private_key(world.keys, "family-plants").write_bytes(source.read_bytes())

    with pytest.raises(DuplicateKey):
        world.init_keys("plants")


def test_a_root_of_one_key_is_refused(world: World) -> None:
    key = load_key(private_key(world.keys, "root-1"), PASSPHRASE).public_key
    other = load_key(private_key(world.keys, "root-2"), PASSPHRASE).public_key

    with pytest.raises(DuplicateKey, match="threshold"):
        new_root([key], [other], world.repository.hub_public_keys(), START_MS)


@pytest.mark.parametrize("content", [b"", b"-----BEGIN PRIVATE KEY-----\n", b"\x00" * 100])
def test_a_key_file_that_is_damaged_is_named(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "root-1.pem"
    path.write_bytes(content)

    with pytest.raises(KeyDamaged, match=r"root-1\.pem"):
        load_key(path, PASSPHRASE)


def test_a_key_file_that_lost_its_end_is_damaged_not_wrongly_opened(tmp_path: Path) -> None:
    path = tmp_path / "root-1.pem"
    make_key(path, PASSPHRASE)
    path.write_bytes(path.read_bytes()[:120])

    with pytest.raises(KeyDamaged):
        load_key(path, PASSPHRASE)


def test_a_folder_without_keys_is_not_found(tmp_path: Path) -> None:
    with pytest.raises(KeysNotFound, match="keys init"):
        read_trust(tmp_path)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("1.targets.json", b"{}"),
        ("1.digits.json", b""),
        ("1.root.json", b"[]"),
        ("nonsense.json", b"{}"),
    ],
)
def test_a_damaged_folder_is_found_before_anything_is_signed(
    world: World, name: str, content: bytes
) -> None:
    (world.keys / "metadata" / name).write_bytes(content)

    with pytest.raises(MetadataDamaged, match=name.replace(".", r"\.")):
        read_trust(world.keys)


def test_metadata_of_one_family_cannot_stand_in_for_another_s(world: World) -> None:
    metadata = world.keys / "metadata"
    (metadata / "1.digits.json").write_bytes((metadata / "1.words.json").read_bytes())

    with pytest.raises(MetadataDamaged, match="not signed by its own keys"):
        read_trust(world.keys)


def test_every_family_starts_without_releases(world: World) -> None:
    for data in (world.keys / "metadata").glob("1.*s.json"):
        assert Metadata[Targets].from_bytes(data.read_bytes()).signed.version == 1
    assert all(not family.targets for family in read_trust(world.keys).families.values())


def test_no_wrong_passphrase_is_taken_for_a_damaged_file(tmp_path: Path) -> None:
    """One in about 256 decrypts to something that is padded right; a thousand find some."""
    path = tmp_path / "root-1.pem"
    make_key(path, PASSPHRASE)

    for number in range(1_000):
        with pytest.raises(WrongPassphrase):
            load_key(path, b"mistyped %d" % number)
