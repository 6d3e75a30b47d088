"""Publishing releases, and the freshness that the hub signs itself."""

from __future__ import annotations

import shutil
import threading
from typing import Any

import pytest
from tuf.api.metadata import Metadata, Snapshot, TargetFile, Timestamp

from contract.codec import decode, encode
from contract.errors import MalformedManifest
from contract.messages import TufIndex
from contract.trust import MAX_VERSION, encode_trust
from fleet.errors import ReleaseNotFound
from fleet.trust.errors import TrustRefused, VersionConflict
from fleet.trust.freshness import believable
from fleet.trust.repository import Repository
from model.archive import open_bundle
from tests.trust.ceremony import DAY_MS, HOUR_MS, START_MS, World, write_release
from tests.trust.forgery import forge, offline, stranger


def carried(world: World, family: str = "digits", version: str = "1") -> tuple[Any, bytes]:
    """A signed bundle's metadata and manifest, not yet published."""
    with open_bundle(world.signed(family, version)[0]) as bundle:
        return bundle.trust(), bundle.manifest_bytes


def timestamp(world: World) -> Timestamp:
    data = world.repository.files()["timestamp.json"]
    return Metadata[Timestamp].from_bytes(data).signed


def test_a_signed_release_is_accepted(world: World) -> None:
    accepted = world.publish("digits", "1")

    assert (accepted.target, accepted.version) == ("digits/1", 2)
    assert world.repository.release("digits/1") == (accepted.digest, accepted.custom)


def test_accepting_twice_changes_nothing(world: World) -> None:
    first = world.publish("digits", "1")
    before = world.repository.files()

    assert world.publish("digits", "1") == first
    assert world.repository.files() == before


def test_an_earlier_release_can_be_accepted_again(world: World) -> None:
    files, manifest = carried(world)
    world.publish("digits", "1")
    world.publish("digits", "2")

    accepted = world.repository.accept(files, manifest)

    assert accepted.custom.counter == 1
    assert world.repository.versions()["digits"] == 3


def test_of_two_signers_on_one_base_the_second_must_sign_again(world: World) -> None:
    other = shutil.copytree(world.keys, world.directory / "keys-2")
    first, _ = world.signed("digits", "1")
    second, _ = world.signed("digits", "2", keys=other)
    world.accept(first)

    with pytest.raises(VersionConflict, match="sign the bundle again"):
        world.accept(second)
    assert world.repository.versions()["digits"] == 2

    world.signed("digits", "2", world.repository.file("digits.json"), other)
    assert world.accept(second).version == 3
    assert world.repository.release("digits/1")[1].counter == 1
    assert world.repository.release("digits/2")[1].counter == 2


def test_versions_may_be_skipped_when_no_release_is_lost(world: World) -> None:
    world.signed("digits", "1")

    assert world.publish("digits", "2").version == 3
    assert world.publish("digits", "1").version == 3


def test_a_team_key_cannot_use_up_the_numbers_of_its_family(world: World) -> None:
    files, manifest = carried(world)

    def ahead(family: Any) -> None:
        family.version = MAX_VERSION

    forged = forge(files["2.digits.json"], ahead, offline(world, "family-digits"))
    offered = {f"{MAX_VERSION}.digits.json": forged}
    with pytest.raises(TrustRefused, match="leaps too far"):
        world.repository.accept(offered, manifest)
    with pytest.raises(TrustRefused, match="leaps too far"):
        world.repository.import_trust(encode_trust(offered))
    assert world.repository.versions()["digits"] == 1


def test_other_content_under_a_published_name_is_a_conflict(world: World) -> None:
    other = shutil.copytree(world.keys, world.directory / "keys-2")
    world.publish("digits", "1")
    path = write_release(world.directory / "other.bundle", "digits", "1", b"other")
    from converter.trust.signing import sign_bundle

    sign_bundle(path, other, b"correct horse", now_ms=START_MS)

    with pytest.raises(VersionConflict, match="other content"):
        world.accept(path)


@pytest.mark.parametrize("wrong", ["stranger", "family-words", "root-1"])
def test_a_release_that_another_key_signed_is_refused(world: World, wrong: str) -> None:
    files, manifest = carried(world)
    signers = [stranger()] if wrong == "stranger" else offline(world, wrong)
    files["2.digits.json"] = forge(files["2.digits.json"], lambda s: None, signers)

    with pytest.raises(TrustRefused):
        world.repository.accept(files, manifest)
    assert world.repository.versions()["digits"] == 1


def test_a_manifest_that_was_changed_after_signing_is_refused(world: World) -> None:
    files, manifest = carried(world)

    with pytest.raises(TrustRefused, match="not the one that was signed"):
        world.repository.accept(files, manifest.replace(b'"m.onnx"', b'"n.onnx"'))


def test_a_manifest_that_is_none_is_malformed(world: World) -> None:
    with pytest.raises(MalformedManifest):
        world.repository.accept({}, b"{}")


@pytest.mark.parametrize("extra", ["1.words.json", "2.root.json", "nonsense", "1.snapshot.json"])
def test_a_bundle_with_metadata_that_is_not_its_own_is_refused(world: World, extra: str) -> None:
    files, manifest = carried(world)

    with pytest.raises(TrustRefused):
        world.repository.accept({**files, extra: b"{}"}, manifest)


def test_an_unsigned_bundle_is_refused(world: World) -> None:
    _, manifest = carried(world)

    with pytest.raises(TrustRefused, match="not signed"):
        world.repository.accept({}, manifest)


def test_a_family_that_vouches_for_another_s_release_is_refused(world: World) -> None:
    def poach(family: Any) -> None:
        target = family.targets["digits/1"]
        family.targets["words/1"] = TargetFile(
            target.length, target.hashes, "words/1", target.unrecognized_fields
        )

    files, manifest = carried(world)
    files["2.digits.json"] = forge(files["2.digits.json"], poach, offline(world, "family-digits"))

    with pytest.raises(TrustRefused, match="words/1"):
        world.repository.accept(files, manifest)


def test_a_family_that_the_hub_does_not_know_needs_the_trust_file_first(world: World) -> None:
    world.init_keys("plants", "ferns")
    path, _ = world.signed("plants", "1")

    with pytest.raises(TrustRefused, match=r"trust\.json"):
        world.accept(path)
    world.import_trust()
    assert world.accept(path).target == "plants/1"


def test_a_bundle_may_bring_the_one_new_family_itself(world: World) -> None:
    world.init_keys("plants")

    assert world.publish("plants", "1").target == "plants/1"
    assert world.repository.versions()["targets"] == 2


def test_an_unknown_release_is_not_found(world: World) -> None:
    for target in ("digits/9", "nobody/1", "policy/hub-keys", ""):
        with pytest.raises(ReleaseNotFound):
            world.repository.release(target)


# Freshness


def test_nothing_is_signed_while_nothing_changed(world: World) -> None:
    assert world.repository.sign_online(world.now_ms) is False
    assert world.repository.sign_online(world.now_ms + 6 * HOUR_MS - 1) is False


def test_after_six_hours_it_is_signed_again(world: World) -> None:
    world.now_ms += 6 * HOUR_MS

    assert world.repository.sign_online(world.now_ms) is True

    signed = timestamp(world)
    assert signed.version == 2
    assert signed.unrecognized_fields["issued_at_ms"] == world.now_ms
    assert world.repository.expiries()["timestamp"] == world.now_ms + DAY_MS
    assert world.repository.expiries()["snapshot"] == world.now_ms + 7 * DAY_MS


def test_a_new_release_is_signed_at_once(world: World) -> None:
    world.publish("digits", "1")

    assert timestamp(world).snapshot_meta.version == 2


def test_the_time_of_issue_never_goes_back(world: World) -> None:
    world.repository.sign_online(START_MS + 10 * HOUR_MS)
    path, _ = world.signed("digits", "1")
    world.now_ms = START_MS
    world.accept(path)

    assert timestamp(world).unrecognized_fields["issued_at_ms"] == START_MS + 10 * HOUR_MS


def test_the_snapshot_lists_every_family_with_length_and_hash(world: World) -> None:
    files = world.repository.files()
    snapshot = Metadata[Snapshot].from_bytes(files["1.snapshot.json"]).signed

    assert set(snapshot.meta) == {"targets.json", "digits.json", "words.json"}
    for name, meta in snapshot.meta.items():
        meta.verify_length_and_hashes(files[f"{meta.version}.{name}"])


def test_what_is_published_is_one_state_even_before_the_next_signature(world: World) -> None:
    before = world.repository.files()
    path, _ = world.signed("digits", "1")
    with open_bundle(path) as bundle:
        world.repository.accept(bundle.trust(), bundle.manifest_bytes)

    assert world.repository.files() == before


def test_versions_go_on_after_a_lost_timestamp(world: World) -> None:
    world.repository.sign_online(START_MS + 7 * HOUR_MS)
    (world.repository.directory / "timestamp.json").unlink()

    world.repository.sign_online(START_MS + 8 * HOUR_MS)

    assert timestamp(world).version == 3


def test_old_snapshots_are_collected(world: World) -> None:
    for number in range(1, 25):
        world.repository.sign_online(START_MS + number * 7 * HOUR_MS)

    kept = list(world.repository.directory.glob("*.snapshot.json"))
    assert len(kept) == 16
    assert "25.snapshot.json" in world.repository.files()


def test_the_index_names_what_is_published_and_fits_the_wire(world: World) -> None:
    world.publish("digits", "1")

    index = decode(TufIndex, encode(world.repository.index(START_MS)))

    assert set(index.files) == {
        "1.root.json",
        "1.targets.json",
        "2.digits.json",
        "1.words.json",
        "2.snapshot.json",
        "timestamp.json",
    }


def test_a_file_is_found_by_its_name_and_by_its_role(world: World) -> None:
    world.publish("digits", "1")
    repository = world.repository

    assert repository.file("digits.json") == repository.file("2.digits.json")
    assert repository.file("timestamp.json") is not None
    assert repository.file("root.json") == repository.file("1.root.json")
    assert repository.file("1.digits.json") is None
    assert repository.file("../keys/timestamp.pem") is None


def test_writers_exclude_each_other(world: World) -> None:
    bundles = [carried(world, family) for family in ("digits", "words")]

    def work(number: int) -> None:
        repository = Repository(world.repository.directory)
        for step in range(10):
            repository.accept(*bundles[number])
            repository.sign_online(START_MS + step * 7 * HOUR_MS)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert world.repository.release("digits/1")[1].counter == 1
    assert world.repository.release("words/1")[1].counter == 1
    assert timestamp(world).version == timestamp(world).snapshot_meta.version


# A hub that was restored from a backup


def test_versions_go_on_above_what_devices_have_seen(world: World) -> None:
    assert not world.repository.sign_online(world.now_ms, {"timestamp": 1, "snapshot": 1})

    assert world.repository.sign_online(world.now_ms, {"timestamp": 40, "snapshot": 38})

    assert timestamp(world).version == 41
    assert timestamp(world).snapshot_meta.version == 41
    assert not world.repository.sign_online(world.now_ms, {"timestamp": 41, "snapshot": 41})


def test_a_lying_device_cannot_push_the_versions_to_their_end(world: World) -> None:
    highest = believable(START_MS)

    assert not world.repository.sign_online(START_MS, {"timestamp": MAX_VERSION})
    assert not world.repository.sign_online(START_MS, {"snapshot": highest + 1})
    assert world.repository.sign_online(START_MS, {"timestamp": MAX_VERSION, "snapshot": highest})

    assert timestamp(world).version == highest + 1
    centuries = (MAX_VERSION - highest) // (366 * 24 * 60) // 100
    assert centuries > 15


def test_what_a_device_says_of_other_roles_does_not_count(world: World) -> None:
    assert not world.repository.sign_online(world.now_ms, {"root": 90, "digits": 90})
