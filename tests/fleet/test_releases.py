"""Publishing: whole, signed, once; or not at all."""

from __future__ import annotations

from pathlib import Path

import pytest
from sqlalchemy import event, select
from sqlalchemy.exc import OperationalError

from contract.manifest import decode_manifest
from fleet.errors import BundleRefused, ReleaseConflict, ReleaseNotFound
from fleet.ports import HubServices
from fleet.releases import find_release, kept_bundle, list_releases, publish_bundle
from fleet.storage.schema import Blob
from fleet.trust.errors import TrustRefused, VersionConflict
from model.archive import open_bundle, with_trust
from model.chunks import blobs_of, unframe
from tests.fleet.harness import HubDirectory, SilentLink
from tests.trust.ceremony import write_release


def stored_blobs(hub: HubServices) -> set[str]:
    return {path.name for path in (hub.directory / "blobs").rglob("*") if path.is_file()}


def releases(hub: HubServices) -> list[str]:
    with hub.storage.reading() as session:
        return [row.target for row in list_releases(session)]


def test_a_published_release_is_stored_with_all_that_devices_need(
    hub: HubServices, hub_directory: HubDirectory
) -> None:
    path = hub_directory.signed("digits", "1")

    published = publish_bundle(hub, path, "operator")

    assert published.created
    with hub.storage.reading() as session:
        row = find_release(session, "digits/1")
        sizes = {b.digest: b.size for b in session.scalars(select(Blob))}
    assert (row.counter, row.published_by) == (1, "operator")
    assert decode_manifest(row.manifest).target == "digits/1"
    with open_bundle(path) as bundle:
        for digest, data in blobs_of(bundle):
            payload = hub.blobs.get(digest)
            assert unframe(payload, len(data), digest) == data
            assert sizes[digest] == len(payload)
    kept = hub.directory / "bundles" / "digits_1.bundle"
    assert kept.read_bytes() == path.read_bytes()
    assert isinstance(hub.link, SilentLink)
    assert hub.link.woken == 1


def test_the_repository_lists_it_at_once(hub: HubServices, hub_directory: HubDirectory) -> None:
    publish_bundle(hub, hub_directory.signed("digits", "1"), "operator")

    digest, custom = hub.repository.release("digits/1")
    assert custom.family == "digits"
    assert "timestamp.json" in hub.repository.files()
    with hub.storage.reading() as session:
        assert find_release(session, "digits/1").digest == digest


def test_publishing_again_changes_nothing(hub: HubServices, hub_directory: HubDirectory) -> None:
    path = hub_directory.signed("digits", "1")
    first = publish_bundle(hub, path, "operator")
    files = hub.repository.files()

    again = publish_bundle(hub, path, "somebody")

    assert not again.created
    assert again.release.published_by == first.release.published_by
    assert hub.repository.files() == files
    assert releases(hub) == ["digits/1"]


def test_other_content_under_a_published_name_is_a_conflict(
    hub: HubServices, hub_directory: HubDirectory
) -> None:
    publish_bundle(hub, hub_directory.signed("digits", "1"), "operator")
    other = write_release(hub_directory.path / "other.bundle", "digits", "1", b"other")
    with open_bundle(hub_directory.path / "digits-1.bundle") as bundle:
        with_trust(other, hub_directory.path / "forged.bundle", bundle.trust())
    before = stored_blobs(hub)

    with pytest.raises(ReleaseConflict, match="new version"):
        publish_bundle(hub, hub_directory.path / "forged.bundle", "operator")

    assert stored_blobs(hub) == before


def test_signatures_that_came_too_late_are_a_conflict_and_leave_nothing(
    hub: HubServices, hub_directory: HubDirectory
) -> None:
    import shutil

    keys, copy = hub_directory.path / "keys", hub_directory.path / "copy"
    shutil.copytree(keys, copy)
    late = hub_directory.signed("digits", "2", b"late" * 9_000)
    shutil.rmtree(keys)
    copy.rename(keys)
    publish_bundle(hub, hub_directory.signed("digits", "1"), "operator")
    before = stored_blobs(hub)

    with pytest.raises(VersionConflict):
        publish_bundle(hub, late, "operator")

    assert stored_blobs(hub) == before
    assert releases(hub) == ["digits/1"]
    assert not (hub.directory / "bundles" / "digits_2.bundle").exists()


def test_an_unsigned_bundle_is_refused_and_leaves_nothing(hub: HubServices, tmp_path: Path) -> None:
    path = write_release(tmp_path / "digits-1.bundle", "digits", "1")

    with pytest.raises(BundleRefused, match="outrider sign"):
        publish_bundle(hub, path, "operator")

    assert stored_blobs(hub) == set()


def test_a_bundle_altered_after_signing_is_refused_and_leaves_nothing(
    hub: HubServices, hub_directory: HubDirectory, tmp_path: Path
) -> None:
    with open_bundle(hub_directory.signed("digits", "1")) as bundle:
        trust = bundle.trust()
    other = write_release(tmp_path / "other.bundle", "digits", "1", b"poison")
    with_trust(other, tmp_path / "altered.bundle", trust)

    with pytest.raises(TrustRefused):
        publish_bundle(hub, tmp_path / "altered.bundle", "operator")

    assert stored_blobs(hub) == set()
    assert releases(hub) == []


@pytest.mark.parametrize("content", [b"", b"PK", b"not a bundle" * 1_000])
def test_what_is_no_bundle_is_refused(hub: HubServices, tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x.bundle"
    path.write_bytes(content)

    with pytest.raises(BundleRefused, match=r"x\.bundle"):
        publish_bundle(hub, path, "operator")


def test_a_flipped_byte_is_refused(hub: HubServices, hub_directory: HubDirectory) -> None:
    path = hub_directory.signed("digits", "1", bytes(range(256)) * 200)
    data = bytearray(path.read_bytes())
    at = data.index(bytes(range(256)) * 2)
    data[at + 100] ^= 1
    path.write_bytes(data)

    with pytest.raises(BundleRefused):
        publish_bundle(hub, path, "operator")

    assert stored_blobs(hub) == set()


def test_a_release_whose_row_could_not_be_written_can_be_published_again(
    hub: HubServices, hub_directory: HubDirectory
) -> None:
    path = hub_directory.signed("digits", "1")

    def full(_c: object, _u: object, statement: str, *_: object) -> None:
        if "INSERT INTO blobs" in statement:
            raise OperationalError(statement, {}, Exception("disk is full"))

    event.listen(hub.storage.engine, "before_cursor_execute", full)
    with pytest.raises(OperationalError):
        publish_bundle(hub, path, "operator")
    event.remove(hub.storage.engine, "before_cursor_execute", full)

    assert releases(hub) == []
    assert stored_blobs(hub) == set()
    assert list((hub.directory / "bundles").iterdir()) == []
    assert publish_bundle(hub, path, "operator").created


def test_blobs_that_another_release_has_stay_when_a_publication_fails(
    hub: HubServices, hub_directory: HubDirectory, tmp_path: Path
) -> None:
    publish_bundle(hub, hub_directory.signed("digits", "1"), "operator")
    before = stored_blobs(hub)
    unsigned = write_release(tmp_path / "x.bundle", "digits", "2", b"w" * 50_000)

    with pytest.raises(BundleRefused):
        publish_bundle(hub, unsigned, "operator")

    assert stored_blobs(hub) == before


def test_releases_are_listed_oldest_first(hub: HubServices, hub_directory: HubDirectory) -> None:
    for version in ("2", "1"):
        publish_bundle(hub, hub_directory.signed("digits", version, version.encode()), "operator")

    assert releases(hub) == ["digits/2", "digits/1"]


def test_a_release_that_is_not_there_is_named_as_people_write_it(hub: HubServices) -> None:
    with hub.storage.reading() as session, pytest.raises(ReleaseNotFound, match="digits:9"):
        find_release(session, "digits/9")


def test_two_releases_whose_names_run_together_keep_their_own_bundles(hub: HubServices) -> None:
    assert kept_bundle(hub, "a", "b-1") != kept_bundle(hub, "a-b", "1")
