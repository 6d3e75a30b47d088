"""What an attacker offers to a device, and what a device must then do."""

from __future__ import annotations

from typing import Any, Protocol

import pytest
from securesystemslib.signer import SSlibKey
from tuf.api.metadata import MetaFile

from agent.errors import DeviceError
from contract.trust import encode_trust
from tests.trust.ceremony import HOUR_MS, Device, World
from tests.trust.forgery import bump, forge, offline, stolen_online


class Holding(Protocol):
    """A broker's memory, in which the attacker puts files in place of the hub's."""

    replaced: dict[str, bytes]


class Victim(Protocol):
    """Whoever reads from that broker."""

    @property
    def source(self) -> Holding:
        """Its broker."""


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


def import_root(world: World, change: Any) -> None:
    files = world.repository.files()
    files["2.root.json"] = forge(files["1.root.json"], change, offline(world, "root-1", "root-2"))
    offered = {n: d for n, d in files.items() if n != "timestamp.json" and "snapshot" not in n}
    world.repository.import_trust(encode_trust(offered))


def offer(world: World, device: Victim, role: str, version: int, data: bytes) -> None:
    """A thief of the online keys makes the snapshot list this file."""
    device.source.replaced[f"{version}.{role}.json"] = data

    def listing(snapshot: Any) -> None:
        bump(snapshot)
        snapshot.meta[f"{role}.json"] = MetaFile(version)

    replace_snapshot(world, device, listing)


def replace_snapshot(world: World, device: Victim, change: Any, also: Any = bump) -> None:
    files = world.repository.files()
    old = max(int(n.split(".")[0]) for n in files if n.endswith(".snapshot.json"))
    forged = forge(files[f"{old}.snapshot.json"], change, [stolen_online(world, "snapshot")])
    replace_linked(world, device, f"{old + 1}.snapshot.json", forged, also)


def replace_linked(world: World, device: Victim, name: str, data: bytes, also: Any = bump) -> None:
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


def rotate_online_keys(world: World) -> None:
    """After a theft: new snapshot and timestamp keys at the hub, named by a root that two offline
    keys signed."""
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

    import_root(world, rotate)
    world.now_ms += HOUR_MS
    world.repository.sign_online(world.now_ms)
