"""Signing releases: what is added, what is kept, and on what it is built."""

from __future__ import annotations

import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from tuf.api.metadata import Metadata, Targets

from converter.trust.errors import (
    BaseRefused,
    FamilyFull,
    FamilyUnknown,
    KeysNotFound,
    ReleaseSigned,
    WrongPassphrase,
)
from converter.trust.folder import read_trust
from converter.trust.signing import sign_bundle
from model.archive import open_bundle
from tests.trust.ceremony import DAY_MS, PASSPHRASE, START_MS, World, write_release
from tests.trust.forgery import bump, forge, stranger


def carried(path: Path) -> dict[str, bytes]:
    """The signed metadata in a bundle."""
    with open_bundle(path) as bundle:
        return bundle.trust()


def test_a_signature_vouches_for_the_manifest(world: World) -> None:
    path, summary = world.signed("digits", "1")

    family = Metadata[Targets].from_bytes(carried(path)["2.digits.json"]).signed
    target = family.targets["digits/1"]
    with open_bundle(path) as bundle:
        assert target.length == len(bundle.manifest_bytes)
    assert target.hashes == {"sha256": summary.digest}
    assert target.custom == {
        "schema": 1,
        "family": "digits",
        "counter": 1,
        "device_classes": [],
        "min_agent": "0",
    }
    assert (summary.target, summary.version, summary.fresh) == ("digits/1", 2, True)


def test_the_bundle_carries_the_targets_that_delegate_to_its_family(world: World) -> None:
    path, _ = world.signed("digits", "1")

    assert set(carried(path)) == {"1.targets.json", "2.digits.json"}


def test_signing_leaves_the_release_itself_as_it_was(world: World) -> None:
    path = write_release(world.directory / "digits-1.bundle", "digits", "1")
    with open_bundle(path) as bundle:
        before = bundle.manifest_bytes

    world.signed("digits", "1")

    with open_bundle(path) as bundle:
        bundle.check()
        assert bundle.manifest_bytes == before


def test_counters_and_versions_grow_and_earlier_releases_stay(world: World) -> None:
    world.signed("digits", "1")
    _, second = world.signed("digits", "2")

    assert (second.counter, second.version) == (2, 3)
    assert set(read_trust(world.keys).families["digits"].targets) == {"digits/1", "digits/2"}


def test_each_family_counts_for_itself(world: World) -> None:
    world.signed("digits", "1")

    assert world.signed("words", "1")[1].counter == 1


def test_signing_twice_changes_nothing(world: World) -> None:
    path, first = world.signed("digits", "1")
    before = path.read_bytes()
    world.now_ms += DAY_MS

    _, second = world.signed("digits", "1")

    assert second.fresh is False
    assert second.counter == first.counter
    assert path.read_bytes() == before


def test_other_content_under_a_signed_version_is_refused(world: World) -> None:
    world.signed("digits", "1")
    other = write_release(world.directory / "other.bundle", "digits", "1", b"other weights")
    before = other.read_bytes()

    with pytest.raises(ReleaseSigned, match="new version"):
        sign_bundle(other, world.keys, PASSPHRASE, now_ms=START_MS)
    assert other.read_bytes() == before


def test_a_signature_lasts_ninety_days_from_now(world: World) -> None:
    world.now_ms += 30 * DAY_MS

    assert world.signed("digits", "1")[1].expires_at_ms == world.now_ms + 90 * DAY_MS


def test_a_run_that_was_cut_before_the_bundle_is_repeated(world: World) -> None:
    path = write_release(world.directory / "digits-1.bundle", "digits", "1")
    unsigned = path.read_bytes()
    world.signed("digits", "1")
    path.write_bytes(unsigned)

    _, summary = world.signed("digits", "1")

    assert (summary.fresh, summary.version) == (False, 2)
    assert "2.digits.json" in carried(path)


def test_a_family_whose_metadata_is_full_is_refused_and_stays_readable(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.signed("digits", "1")
    before = read_trust(world.keys).files
    length = len(before["2.digits.json"])
    monkeypatch.setattr("converter.trust.signing.MAX_TARGETS_BYTES", length)

    with pytest.raises(FamilyFull, match="2 releases"):
        world.signed("digits", "2")
    assert read_trust(world.keys).files == before


# Two people sign


def test_two_signatures_at_once_take_two_versions(world: World) -> None:
    paths = [write_release(world.directory / f"{n}.bundle", "digits", n) for n in "123"]

    with ThreadPoolExecutor() as pool:
        signed = pool.map(
            lambda path: sign_bundle(path, world.keys, PASSPHRASE, now_ms=START_MS), paths
        )
        summaries = list(signed)

    assert {summary.version for summary in summaries} == {2, 3, 4}
    assert {summary.counter for summary in summaries} == {1, 2, 3}
    assert len(read_trust(world.keys).families["digits"].targets) == 3


def second_workstation(world: World) -> Path:
    """A copy of the keys folder, as it is now."""
    return Path(shutil.copytree(world.keys, world.directory / "keys-2"))


def test_a_newer_base_of_the_hub_is_built_upon(world: World) -> None:
    other = second_workstation(world)
    world.publish("digits", "1")
    world.publish("digits", "2")

    _, summary = world.signed("digits", "3", world.repository.file("digits.json"), other)

    assert (summary.counter, summary.version) == (3, 4)
    assert set(read_trust(other).families["digits"].targets) == {
        "digits/1",
        "digits/2",
        "digits/3",
    }


def test_the_hub_s_base_wins_over_a_signature_that_was_never_published(world: World) -> None:
    other = second_workstation(world)
    world.signed("digits", "8", keys=other)
    world.publish("digits", "1")

    path, summary = world.signed("digits", "9", world.repository.file("digits.json"), other)

    assert set(read_trust(other).families["digits"].targets) == {"digits/1", "digits/9"}
    assert world.accept(path).version == summary.version


def test_an_older_base_does_not_lose_what_was_signed_here(world: World) -> None:
    base = world.repository.file("digits.json")
    world.signed("digits", "1")

    world.signed("digits", "2", base)

    assert set(read_trust(world.keys).families["digits"].targets) == {"digits/1", "digits/2"}


@pytest.mark.parametrize("base", [b"", b"{}", b"x" * 600_000])
def test_a_base_that_is_not_metadata_is_refused(world: World, base: bytes) -> None:
    with pytest.raises(BaseRefused):
        world.signed("digits", "1", base)


def test_a_base_that_a_stranger_signed_is_refused(world: World) -> None:
    base = forge(world.repository.files()["1.digits.json"], bump, [stranger()])

    with pytest.raises(BaseRefused):
        world.signed("digits", "1", base)


# Refusals


def test_a_family_without_a_key_cannot_be_signed(world: World) -> None:
    path = write_release(world.directory / "p.bundle", "plants", "1")

    with pytest.raises(FamilyUnknown, match=r"keys add .* plants"):
        sign_bundle(path, world.keys, PASSPHRASE, now_ms=START_MS)


def test_a_wrong_passphrase_signs_nothing(world: World) -> None:
    path = write_release(world.directory / "d.bundle", "digits", "1")
    before = path.read_bytes()

    with pytest.raises(WrongPassphrase, match="family-digits"):
        sign_bundle(path, world.keys, b"wrong horse", now_ms=START_MS)
    assert path.read_bytes() == before


def test_a_folder_without_keys_signs_nothing(world: World, tmp_path: Path) -> None:
    path = write_release(tmp_path / "d.bundle", "digits", "1")

    with pytest.raises(KeysNotFound):
        sign_bundle(path, tmp_path / "nowhere", PASSPHRASE, now_ms=START_MS)
