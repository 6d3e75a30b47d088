"""The bucket holds what open rollouts and assignments need, whatever died in between."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import pytest
from sqlalchemy import select

from fleet.assembly import run_hub
from fleet.assignments import assign, unassign
from fleet.bucket import Bucket
from fleet.bucket_upkeep import GRACE_MS, LIST_EVERY_MS, BucketUpkeep
from fleet.errors import BucketUnusable
from fleet.packs import Shelf
from fleet.ports import HubServices
from fleet.releases import publish_bundle
from fleet.storage.schema import Blob
from tests.fleet.harness import HubDirectory, enrolled, until, wanted
from tests.s3 import KEYS, S3Server, s3_server

WEIGHTS = os.urandom(300_000)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[S3Server]:
    with s3_server(tmp_path / "s3") as server:
        yield server


@dataclass
class Kept:
    """A hub with a bucket, a release for cam-1, and a clock that a test sets."""

    hub: HubServices
    bucket: Bucket
    now_ms: int = 1_900_000_000_000
    waited: list[float] = field(default_factory=list)
    stop_after: int = 1 << 60
    """Looks at whether the hub stops."""

    def __post_init__(self) -> None:
        self.restart()

    def restart(self) -> None:
        """A hub that was killed remembers nothing."""
        self.shelf = Shelf(self.bucket)
        parts = (self.hub.storage, self.hub.blobs, lambda: self.now_ms, self.wait)
        self.upkeep = BucketUpkeep(self.bucket, self.shelf, *parts)

    def wait(self, seconds: float) -> bool:
        self.waited += [seconds] if seconds else []
        self.stop_after -= 1
        return self.stop_after < 0

    def give(self, target: str = "digits/1") -> None:
        with self.hub.storage.session() as session:
            assign(session, "cam-1", "digits", wanted(target), self.now_ms)

    def take_away(self) -> None:
        with self.hub.storage.session() as session:
            unassign(session, "cam-1", "digits", self.now_ms)


@pytest.fixture
def kept(hub: HubServices, hub_directory: HubDirectory, store: S3Server) -> Kept:
    publish_bundle(hub, hub_directory.signed("digits", "1", WEIGHTS), "operator")
    enrolled(hub, "cam-1")
    return Kept(hub, Bucket(store.config(), KEYS))


def content(hub: HubServices) -> set[bytes]:
    with hub.storage.reading() as session:
        return {hub.blobs.get(digest) for digest in session.scalars(select(Blob.digest))}


def test_what_is_needed_goes_there_once_and_is_found_at_its_places(
    kept: Kept, store: S3Server
) -> None:
    kept.upkeep.step()
    assert store.packs() == []
    kept.give()
    kept.upkeep.step()
    (path,) = store.packs()
    written = path.stat().st_mtime_ns
    pack, data = kept.shelf.held["digits/1"], path.read_bytes()
    found = {data[start : start + length] for start, length in pack.places.values()}
    assert found == content(kept.hub)
    assert path.name == pack.name
    kept.now_ms += LIST_EVERY_MS
    kept.upkeep.step()
    assert path.stat().st_mtime_ns == written


def test_small_releases_stay_with_the_broker(kept: Kept, store: S3Server) -> None:
    kept.bucket = Bucket(store.config(above_bytes=1 << 30), KEYS)
    kept.restart()
    kept.give()
    kept.upkeep.step()
    assert store.packs() == []
    assert kept.shelf.held == {}


def test_what_nobody_needs_goes_after_a_day_and_nothing_else_does(
    kept: Kept, store: S3Server
) -> None:
    kept.give()
    kept.upkeep.step()
    (path,) = store.packs()
    holiday = path.parent / "holiday.jpg"
    holiday.write_bytes(b"x")
    kept.take_away()
    kept.upkeep.step()
    assert kept.shelf.held == {}  # no address to it any more
    kept.now_ms += GRACE_MS - 1
    kept.upkeep.step()
    assert path.exists()  # devices may be at it
    kept.now_ms += 1
    kept.upkeep.step()
    assert not path.exists()
    assert holiday.exists()


def test_what_a_killed_hub_left_is_cleared_and_what_it_lacked_is_put(
    kept: Kept, store: S3Server
) -> None:
    kept.give()
    kept.upkeep.step()
    (path,) = store.packs()
    orphan = path.with_name("f" * 64 + ".pack")
    orphan.write_bytes(b"of a release that was withdrawn while the hub was down")
    path.write_bytes(b"half")
    kept.restart()
    kept.upkeep.step()
    assert path.stat().st_size == kept.shelf.held["digits/1"].length
    kept.now_ms += GRACE_MS
    kept.upkeep.step()
    assert store.packs() == [path]


def test_an_object_that_somebody_deleted_comes_back_with_the_next_listing(
    kept: Kept, store: S3Server
) -> None:
    kept.give()
    kept.upkeep.step()
    (path,) = store.packs()
    path.unlink()
    kept.now_ms += LIST_EVERY_MS
    kept.upkeep.step()
    assert path.exists()


def test_a_store_that_is_away_is_told_once_a_try_and_gives_no_addresses(
    kept: Kept, store: S3Server, caplog: pytest.LogCaptureFixture
) -> None:
    kept.give()
    kept.upkeep.step()
    assert kept.shelf.held
    store.stop()
    kept.now_ms += LIST_EVERY_MS
    kept.waited.clear()
    with caplog.at_level(logging.WARNING, "fleet.bucket_upkeep"):
        kept.upkeep.step()
        kept.upkeep.step()
    assert kept.shelf.held == {}
    assert [record.getMessage() for record in caplog.records if "from the hub" in record.message]
    assert kept.waited == [5.0, 10.0]  # not asked ever faster
    assert "bucket models, list_objects_v2" in kept.shelf.trouble
    store.start()
    kept.upkeep.step()
    assert kept.shelf.held
    assert kept.shelf.trouble == ""


@pytest.mark.parametrize("blobs_read", [5, 25])  # while it is hashed; while it is sent
def test_a_hub_that_stops_in_the_middle_of_an_upload_leaves_no_half_object(
    kept: Kept, store: S3Server, caplog: pytest.LogCaptureFixture, blobs_read: int
) -> None:
    kept.give()
    kept.stop_after = blobs_read
    with caplog.at_level(logging.WARNING, "fleet.bucket_upkeep"):
        kept.upkeep.step()
    assert store.packs() == []
    assert caplog.records == []  # stopping is no failure


def test_a_release_whose_blobs_are_lost_is_said_once_and_hinders_no_other(
    kept: Kept, hub_directory: HubDirectory, store: S3Server, caplog: pytest.LogCaptureFixture
) -> None:
    publish_bundle(kept.hub, hub_directory.signed("digits", "2", os.urandom(50_000)), "operator")
    kept.give()
    with kept.hub.storage.reading() as session:
        lost = set(session.scalars(select(Blob.digest).where(Blob.release == "digits/1")))
        lost -= set(session.scalars(select(Blob.digest).where(Blob.release == "digits/2")))
    for digest in lost:
        kept.hub.blobs.discard(digest)
    kept.upkeep.step()
    kept.upkeep.step()
    assert len([r for r in caplog.records if "does not go to the bucket" in r.message]) == 1
    kept.give("digits/2")
    kept.upkeep.step()
    assert list(kept.shelf.held) == ["digits/2"]


def give_another(kept: Kept, hub_directory: HubDirectory) -> None:
    """A second release, for a second device."""
    publish_bundle(kept.hub, hub_directory.signed("digits", "2", os.urandom(50_000)), "operator")
    enrolled(kept.hub, "cam-2")
    with kept.hub.storage.session() as session:
        assign(session, "cam-2", "digits", wanted("digits/2"), kept.now_ms)


def test_blobs_that_are_lost_once_a_release_was_packed_hinder_no_other(
    kept: Kept, hub_directory: HubDirectory, store: S3Server, caplog: pytest.LogCaptureFixture
) -> None:
    kept.give()
    kept.upkeep.step()
    (path,) = store.packs()
    path.unlink()
    give_another(kept, hub_directory)
    with kept.hub.storage.reading() as session:
        shared = set(session.scalars(select(Blob.digest).where(Blob.release == "digits/2")))
    alone = [d for d in kept.shelf.held["digits/1"].digests if d not in shared]
    kept.hub.blobs.discard(alone[-1])
    kept.now_ms += LIST_EVERY_MS
    for _ in range(3):
        kept.upkeep.step()
    assert list(kept.shelf.held) == ["digits/2"]
    assert len([r for r in caplog.records if "does not go to the bucket" in r.message]) == 1
    assert "digits/1" in kept.shelf.trouble  # for as long as it is needed


def test_an_object_that_the_store_does_not_take_hinders_no_other(
    kept: Kept, hub_directory: HubDirectory, store: S3Server
) -> None:
    """As one that is larger than a proxy before the store lets pass."""
    kept.give()
    kept.upkeep.step()
    (path,) = store.packs()
    path.unlink()
    (path / "in-the-way").mkdir(parents=True)
    give_another(kept, hub_directory)
    kept.now_ms += LIST_EVERY_MS
    kept.waited.clear()
    for _ in range(4):
        kept.upkeep.step()
        assert list(kept.shelf.held) in ([], ["digits/2"])
    assert list(kept.shelf.held) == ["digits/2"]
    assert "put_object" in kept.shelf.trouble
    assert len(kept.waited) >= 3  # not asked without a rest
    orphan = path.with_name("e" * 64 + ".pack")
    orphan.write_bytes(b"of no release")
    kept.now_ms += LIST_EVERY_MS
    kept.upkeep.step()
    kept.now_ms += GRACE_MS
    kept.upkeep.step()
    assert not orphan.exists()  # and what is due is cleared
    (path / "in-the-way").rmdir()
    path.rmdir()
    kept.upkeep.step()
    assert sorted(kept.shelf.held) == ["digits/1", "digits/2"]
    assert kept.shelf.trouble == ""


@pytest.fixture
def keys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", KEYS.access_key_id)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", KEYS.secret_access_key)


def configure(directory: HubDirectory, store: S3Server) -> None:
    path = directory.hub / "hub.json"
    settings = msgspec.json.decode(path.read_bytes())
    settings["bucket"] = msgspec.to_builtins(store.config())
    path.write_bytes(msgspec.json.encode(settings))


@pytest.mark.usefixtures("keys")
def test_a_running_hub_tends_its_bucket(hub_directory: HubDirectory, store: S3Server) -> None:
    configure(hub_directory, store)
    with run_hub(hub_directory.hub) as running:
        hub = running.services
        publish_bundle(hub, hub_directory.signed("digits", "1", WEIGHTS), "operator")
        enrolled(hub, "cam-1")
        with hub.storage.session() as session:
            assign(session, "cam-1", "digits", wanted(), hub.clock())
        shelf = hub.shelf
        assert shelf is not None
        until(lambda: "digits/1" in shelf.held, 20)
    assert len(store.packs()) == 1


def test_a_hub_without_keys_does_not_start_without_its_bucket(
    hub_directory: HubDirectory, store: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID", raising=False)
    configure(hub_directory, store)
    with pytest.raises(BucketUnusable, match="no keys for the bucket"), run_hub(hub_directory.hub):
        pass
