"""A hub that was broken into: what a thief of its keys signs, and how offline keys end it."""

from __future__ import annotations

from typing import Any

from tuf.api.metadata import Metadata, MetaFile

from converter.trust.ceremony import ChangeSummary
from converter.trust.custody import rotate_online
from tests.trust.ceremony import DAY_MS, PASSPHRASE, World
from tests.trust.forgery import forge, stolen_online

YEAR_MS = 365 * DAY_MS


def passphrase() -> bytes:
    return PASSPHRASE


def new_online_keys(world: World) -> ChangeSummary:
    """As docs/runbook-keys.md says: new keys, a ceremony, and the trust file to the hub."""
    hub = world.repository.stage_online_keys()
    change = rotate_online(world.keys, hub, passphrase, world.now_ms)
    world.import_trust()
    return change


def run_ahead(
    world: World, held: dict[str, bytes], version: int, families: dict[str, bytes]
) -> None:
    """The thief signs the last numbers that there are, and a time near everything's expiry, and
    puts them among what the broker holds."""
    files = world.repository.files()
    old = max(int(name.split(".")[0]) for name in files if name.endswith(".snapshot.json"))

    def listing(snapshot: Any) -> None:
        snapshot.version = version
        snapshot.expires = snapshot.expires.replace(year=snapshot.expires.year + 1)
        for name, data in families.items():
            number = Metadata.from_bytes(data).signed.version
            snapshot.meta[f"{name}.json"] = MetaFile(number)
            held[f"{number}.{name}.json"] = data

    def naming(timestamp: Any) -> None:
        timestamp.version = version
        timestamp.snapshot_meta = MetaFile(version)
        timestamp.unrecognized_fields["issued_at_ms"] = world.now_ms + YEAR_MS
        timestamp.expires = timestamp.expires.replace(year=timestamp.expires.year + 1)

    signers = {role: [stolen_online(world, role)] for role in ("snapshot", "timestamp")}
    snapshot = forge(files[f"{old}.snapshot.json"], listing, signers["snapshot"])
    held[f"{version}.snapshot.json"] = snapshot
    held["timestamp.json"] = forge(files["timestamp.json"], naming, signers["timestamp"])
