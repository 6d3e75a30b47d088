"""One test an attack: what is offered, and the class under which the device refuses it."""

from __future__ import annotations

from typing import Any

import pytest
from tuf.api.metadata import MetaFile, TargetFile

from agent.errors import (
    DeviceError,
    Malformed,
    RollbackDetected,
    StaleMetadata,
    Tampered,
    TransportFailed,
    Untrusted,
)
from tests.trust.ceremony import DAY_MS, HOUR_MS, START_MS, Device, World
from tests.trust.forgery import bump, forge, offline, stolen_online, stranger


@pytest.fixture
def seen(world: World, device: Device) -> Device:
    """A device that knows release 1, on version 2 of the timestamp."""
    world.publish("digits", "1")
    device.guard.refresh(["digits/1"])
    return device


def resign(world: World) -> None:
    """The hub's next timestamp and snapshot."""
    world.now_ms += 7 * HOUR_MS
    assert world.repository.sign_online(world.now_ms)


def refuse(device: Device, kind: type[DeviceError], match: str | None = None) -> None:
    """The refresh fails by this class, and what was known before still is."""
    before = device.guard.cached_view()
    with pytest.raises(kind, match=match) as caught:
        device.guard.refresh(["digits/1"])
    assert caught.type is kind
    after = device.guard.cached_view()
    assert before is not None
    assert after is not None
    assert after.releases == before.releases


# Going back


def test_an_older_timestamp_is_a_rollback(world: World, seen: Device) -> None:
    old = world.repository.files()
    resign(world)
    seen.guard.refresh()

    seen.source.files = lambda: old
    refuse(seen, RollbackDetected)


@pytest.mark.parametrize("damage", [b"", b"{", b'{"signed": {}}'])
def test_an_older_timestamp_is_a_rollback_though_local_metadata_is_torn(
    world: World, seen: Device, damage: bytes
) -> None:
    old = world.repository.files()
    resign(world)
    seen.guard.refresh()
    for name in ("timestamp.json", "snapshot.json"):
        (seen.directory / name).write_bytes(damage)

    seen.source.files = lambda: old
    refuse(seen, RollbackDetected, "timestamp 2 after 3")


def test_a_rollback_is_still_refused_after_it_was_refused_once(world: World, seen: Device) -> None:
    old = world.repository.files()
    resign(world)
    seen.guard.refresh()
    (seen.directory / "timestamp.json").unlink()
    seen.source.files = lambda: old
    refuse(seen, RollbackDetected)

    refuse(seen, RollbackDetected)


def test_an_honest_refresh_heals_what_was_torn_or_wiped(world: World, seen: Device) -> None:
    for path in seen.directory.glob("*.json"):
        if path.name not in ("anchor.json", "root.json"):
            path.write_bytes(b"")
    (seen.directory / "root_history" / "1.root.json").write_bytes(b"")
    (seen.directory / "tmpabandoned").write_bytes(b"half")

    assert seen.guard.refresh(["digits/1"]).release("digits/1").target == "digits/1"
    assert (seen.directory / "digits.json").stat().st_size > 0
    assert not (seen.directory / "tmpabandoned").exists()


def test_a_snapshot_that_lists_older_targets_is_a_rollback(world: World, seen: Device) -> None:
    world.publish("digits", "2")
    seen.guard.refresh(["digits/2"])

    def older(snapshot: Any) -> None:
        bump(snapshot)
        snapshot.meta["digits.json"] = MetaFile(2)

    _replace_snapshot(world, seen, older)
    refuse(seen, RollbackDetected)


def test_a_snapshot_that_drops_a_family_is_a_rollback(world: World, seen: Device) -> None:
    def drop(snapshot: Any) -> None:
        bump(snapshot)
        del snapshot.meta["digits.json"]

    _replace_snapshot(world, seen, drop)
    refuse(seen, RollbackDetected, "missing info")


def test_a_family_older_than_the_journal_is_a_rollback_though_the_snapshot_was_lost(
    world: World, seen: Device
) -> None:
    old_family = world.repository.files()["2.digits.json"]
    world.publish("digits", "2")
    seen.guard.refresh(["digits/2"])
    for name in ("timestamp.json", "snapshot.json", "digits.json"):
        (seen.directory / name).unlink()

    def older(snapshot: Any) -> None:
        bump(snapshot)
        snapshot.meta["digits.json"] = MetaFile(2)

    _replace_snapshot(world, seen, older)
    seen.source.replaced["2.digits.json"] = old_family
    refuse(seen, RollbackDetected, "version 2, after 3")


# Standing still


def test_a_frozen_timestamp_is_stale_after_its_day(world: World, seen: Device) -> None:
    world.now_ms += DAY_MS + 1

    refuse(seen, StaleMetadata, "timestamp")


def test_a_frozen_snapshot_is_stale_after_its_week(world: World, seen: Device) -> None:
    world.now_ms += 8 * DAY_MS
    files = world.repository.files()

    def fresh(timestamp: Any) -> None:
        from converter.trust.metadata import expiry

        bump(timestamp)
        timestamp.expires = expiry(world.now_ms, DAY_MS)

    seen.source.replaced["timestamp.json"] = forge(
        files["timestamp.json"], fresh, [stolen_online(world, "timestamp")]
    )
    refuse(seen, StaleMetadata, "snapshot")


def test_targets_that_nobody_renews_are_stale_after_their_term(world: World, seen: Device) -> None:
    world.now_ms += 91 * DAY_MS
    world.repository.sign_online(world.now_ms)

    refuse(seen, StaleMetadata, "targets")


def test_a_root_that_nobody_renews_is_stale_after_its_year(world: World, seen: Device) -> None:
    world.now_ms += 366 * DAY_MS
    world.repository.sign_online(world.now_ms)

    refuse(seen, StaleMetadata, "root")


# Clocks


def test_a_clock_at_1970_does_not_make_expired_metadata_valid(world: World, seen: Device) -> None:
    old = world.repository.files()
    world.now_ms += 30 * DAY_MS
    world.repository.sign_online(world.now_ms)
    seen.guard.refresh()

    seen.clock_ms = 0
    seen.source.files = lambda: old
    for name in ("timestamp.json", "snapshot.json"):
        (seen.directory / name).unlink()
    refuse(seen, StaleMetadata, "timestamp")


def test_a_clock_at_1970_does_not_stop_a_good_refresh(world: World, seen: Device) -> None:
    seen.clock_ms = 0
    world.publish("digits", "2")

    view = seen.guard.refresh(["digits/2"])

    assert view.release("digits/2").target == "digits/2"
    assert view.now_ms == START_MS


def test_a_new_device_at_1970_starts_at_the_time_of_its_enrolment(
    world: World, device: Device
) -> None:
    device.clock_ms = 0
    device.build_ms = START_MS + 2 * DAY_MS

    with pytest.raises(StaleMetadata):
        device.guard.refresh()


def test_a_clock_that_runs_ahead_blocks_updates_and_leaves_no_trace(
    world: World, seen: Device
) -> None:
    seen.clock_ms = START_MS + 1_000 * DAY_MS
    refuse(seen, StaleMetadata)

    seen.clock_ms = None
    assert seen.guard.refresh(["digits/1"]).now_ms == world.now_ms


def test_a_hub_whose_clock_runs_ahead_cannot_push_a_device_past_every_expiry(
    world: World, seen: Device
) -> None:
    lying = world.now_ms + 10_000 * DAY_MS

    def future(timestamp: Any) -> None:
        bump(timestamp)
        timestamp.unrecognized_fields["issued_at_ms"] = lying

    _replace_snapshot(world, seen, bump, future)
    seen.guard.refresh()

    assert seen.journal.floor_ms < START_MS + 7 * DAY_MS


# Who signed


@pytest.mark.parametrize("name", ["timestamp.json", "3.snapshot.json"])
def test_a_stranger_s_online_metadata_is_untrusted(world: World, seen: Device, name: str) -> None:
    resign(world)
    forged = forge(world.repository.files()[name], lambda signed: None, [stranger()])

    _replace_linked(world, seen, name, forged)
    refuse(seen, Untrusted)


def test_a_stranger_s_family_metadata_is_untrusted(world: World, seen: Device) -> None:
    forged = forge(world.repository.files()["2.digits.json"], bump, [stranger()])

    _offer(world, seen, "digits", 3, forged)
    refuse(seen, Untrusted)


def test_one_family_s_key_cannot_sign_for_another(world: World, seen: Device) -> None:
    forged = forge(world.repository.files()["2.digits.json"], bump, offline(world, "family-words"))

    _offer(world, seen, "digits", 3, forged)
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
    _offer(world, seen, "digits", 3, forged)

    view = seen.guard.refresh(["digits/1", "words/66"])
    with pytest.raises(Untrusted):
        view.release("words/66")


def test_stolen_online_keys_cannot_add_a_release(world: World, seen: Device) -> None:
    forged = forge(
        world.repository.files()["2.digits.json"], bump, [stolen_online(world, "snapshot")]
    )

    _offer(world, seen, "digits", 3, forged)
    refuse(seen, Untrusted)


@pytest.mark.parametrize("version", [10**9, 1 << 63, 10**30])
def test_a_version_beyond_every_bound_is_malformed_and_not_kept(
    world: World, seen: Device, version: int
) -> None:
    known = dict(seen.journal.versions)

    _replace_snapshot(world, seen, bump, lambda timestamp: setattr(timestamp, "version", version))
    refuse(seen, Malformed)
    assert seen.journal.versions == known


def test_a_family_key_cannot_overflow_what_the_device_keeps(world: World, seen: Device) -> None:
    def endless(targets: Any) -> None:
        bump(targets)
        targets.targets["digits/1"].length = 10**30

    forged = forge(
        world.repository.files()["2.digits.json"], endless, offline(world, "family-digits")
    )

    _offer(world, seen, "digits", 3, forged)
    view = seen.guard.refresh(["digits/1"])
    with pytest.raises(Malformed):
        view.release("digits/1")
    assert seen.guard.cached_view() is not None


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
    from securesystemslib.signer import SSlibKey

    def ahead(timestamp: Any) -> None:
        timestamp.version = 10_000
        timestamp.unrecognized_fields["issued_at_ms"] = world.now_ms + 6 * DAY_MS
        timestamp.expires = timestamp.expires.replace(year=timestamp.expires.year + 1)

    _replace_snapshot(world, seen, bump, ahead)
    seen.guard.refresh()
    assert seen.journal.versions["timestamp"] == 10_000
    seen.source.replaced.clear()

    for name in ("snapshot", "timestamp"):
        (world.repository.keys / f"{name}.pem").unlink()
    world.repository.create_online_keys()
    hub = world.repository.hub_public_keys()

    def rotate(root: Any) -> None:
        bump(root)
        for role, public in (("snapshot", hub.snapshot), ("timestamp", hub.timestamp)):
            root.revoke_key(root.roles[role].keyids[0], role)
            key = stolen_online(world, role).public_key
            assert isinstance(key, SSlibKey)
            assert key.keyval["public"] == public
            root.add_key(key, role)

    _import_root(world, rotate)
    world.now_ms += HOUR_MS
    world.repository.sign_online(world.now_ms)

    view = seen.guard.refresh(["digits/1"])

    assert view.versions["timestamp"] < 10_000
    assert seen.journal.versions["timestamp"] == view.versions["timestamp"]
    assert seen.journal.floor_ms == world.now_ms


def _import_root(world: World, change: Any) -> None:
    from contract.trust import encode_trust

    files = world.repository.files()
    files["2.root.json"] = forge(files["1.root.json"], change, offline(world, "root-1", "root-2"))
    offered = {n: d for n, d in files.items() if n != "timestamp.json" and "snapshot" not in n}
    world.repository.import_trust(encode_trust(offered))


def _offer(world: World, device: Device, role: str, version: int, data: bytes) -> None:
    """A thief of the online keys makes the snapshot list this file."""
    device.source.replaced[f"{version}.{role}.json"] = data

    def listing(snapshot: Any) -> None:
        bump(snapshot)
        snapshot.meta[f"{role}.json"] = MetaFile(version)

    _replace_snapshot(world, device, listing)


def _replace_snapshot(world: World, device: Device, change: Any, also: Any = bump) -> None:
    files = world.repository.files()
    old = max(int(n.split(".")[0]) for n in files if n.endswith(".snapshot.json"))
    forged = forge(files[f"{old}.snapshot.json"], change, [stolen_online(world, "snapshot")])
    _replace_linked(world, device, f"{old + 1}.snapshot.json", forged, also)


def _replace_linked(world: World, device: Device, name: str, data: bytes, also: Any = bump) -> None:
    """Offer a file; for a snapshot, with a timestamp that names it."""
    device.source.replaced[name] = data
    if name == "timestamp.json":
        return

    def naming(timestamp: Any) -> None:
        also(timestamp)
        timestamp.snapshot_meta = MetaFile(int(name.split(".")[0]))

    device.source.replaced["timestamp.json"] = forge(
        world.repository.files()["timestamp.json"], naming, [stolen_online(world, "timestamp")]
    )
