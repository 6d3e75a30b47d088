"""Attacks with time: what is old, what stands still, and clocks that are wrong."""

from __future__ import annotations

from typing import Any

import pytest
from tuf.api.metadata import MetaFile

from agent.errors import (
    RollbackDetected,
    StaleMetadata,
)
from tests.agent.trust.offers import (
    refuse,
    replace_snapshot,
    resign,
)
from tests.trust.ceremony import DAY_MS, START_MS, Device, World
from tests.trust.forgery import bump, forge, stolen_online

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

    replace_snapshot(world, seen, older)
    refuse(seen, RollbackDetected)


def test_a_snapshot_that_drops_a_family_is_a_rollback(world: World, seen: Device) -> None:
    def drop(snapshot: Any) -> None:
        bump(snapshot)
        del snapshot.meta["digits.json"]

    replace_snapshot(world, seen, drop)
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

    replace_snapshot(world, seen, older)
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

    replace_snapshot(world, seen, bump, future)
    seen.guard.refresh()

    assert seen.journal.floor_ms < START_MS + 7 * DAY_MS
