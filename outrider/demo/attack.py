"""The demo's attacker: holds the stolen hub with all that is in it, and no offline key.

It speaks through the hub's own channels: its certificate and place at the broker, its assignment
key, its snapshot and timestamp keys. What it cannot make is a byte that offline keys vouch for.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Event
from typing import Any

from contract.deployments import Mode
from contract.messages import Assignment, FamilyAssignment
from outrider.errors import CommandFailed

CONNECT_S = 5.0
PUBLISH_S = 10.0
TRIES = 5
HOUR_MS = 3_600_000


@dataclass(frozen=True)
class Forgery:
    """What the attacker wants devices to take, and the retained messages that carry it."""

    target: str
    digest: str
    rollout: str
    messages: dict[str, bytes]
    fresh: Any = None
    """Snapshot and timestamp signed with the stolen keys; None where none were needed."""


def alter_chunk(bundle: Path, known: Path) -> Forgery:
    """A bundle altered after it was signed: one byte of one chunk, under the chunk's own name."""
    from contract.ids import digest_of
    from contract.topics import blob_topic
    from model.archive import open_bundle
    from model.chunks import blobs_of, frame

    with open_bundle(known) as before:
        held = {digest for digest, _ in blobs_of(before)}
    with open_bundle(bundle) as opened:
        manifest = opened.manifest
        digest = digest_of(opened.manifest_bytes)
        blobs = dict(blobs_of(opened))
        lists = {f.chunks.digest for f in manifest.device_files if f.chunks is not None}
    messages = {blob_topic(name): frame(data) for name, data in blobs.items()}
    chunks = [name for name in blobs if name not in held | lists | {digest}]
    victim = max(chunks, key=lambda name: len(blobs[name]))
    altered = bytearray(blobs[victim])
    altered[len(altered) // 2] ^= 0x01
    messages[blob_topic(victim)] = frame(bytes(altered))
    return Forgery(manifest.target, digest, "attack-altered", messages)


def forge_release(hub: Path, family: str, version: str, manifest: bytes) -> Forgery:
    """A release signed with a stranger's key, listed by a genuine snapshot and timestamp."""
    from contract.ids import digest_of
    from contract.topics import blob_topic, tuf_index_topic, tuf_topic
    from contract.trust import MAX_VERSION, SNAPSHOT, TIMESTAMP, TIMESTAMP_FILE, metadata_name
    from fleet.trust import directory, freshness, online
    from model.chunks import frame

    trust = directory.read_trust(hub / "tuf")
    if trust is None:
        raise CommandFailed("the hub has no trust yet, so there is nothing to forge")
    target = f"{family}/{version}"
    forged_family = _stranger_signs(trust.families[family], family, target, manifest)
    forged = replace(trust, families={**trust.families, family: forged_family})
    last = directory.read_fresh(hub / "tuf", trust.root)
    signers = {role: online.signer(hub / "keys", role) for role in (SNAPSHOT, TIMESTAMP)}
    taken = directory.highest_snapshot(hub / "tuf", MAX_VERSION)
    fresh = freshness.sign(forged, last, signers, _now_ms(), taken)
    files = {
        forged_family.name: forged_family.data,
        metadata_name(SNAPSHOT, fresh.snapshot.version): fresh.snapshot_data,
        TIMESTAMP_FILE: fresh.timestamp_data,
    }
    messages = {tuf_topic(name): data for name, data in files.items()}
    messages[tuf_index_topic()] = _index(hub, files)
    messages[blob_topic(digest_of(manifest))] = frame(manifest)
    return Forgery(target, digest_of(manifest), "attack-stranger", messages, fresh)


def assign(hub: Path, forgery: Forgery, seqs: Mapping[str, int]) -> dict[str, bytes]:
    """Assignments of the forgery, one a device, signed with the hub's stolen key."""
    from contract.envelope import seal
    from contract.topics import Channel, device_topic
    from fleet.trust.repository import Repository

    key = Repository(hub / "tuf").assignment_key()
    now, family = _now_ms(), forgery.target.partition("/")[0]
    wanted = FamilyAssignment(
        target=forgery.target, digest=forgery.digest, rollout=forgery.rollout, mode=Mode.SERVE
    )
    return {
        device_topic(device, Channel.ASSIGNMENT): seal(
            Assignment(
                device=device,
                seq=seq + 1,
                issued_at_ms=now,
                expires_at_ms=now + HOUR_MS,
                families={family: wanted},
            ),
            key,
        )
        for device, seq in seqs.items()
    }


def give_the_hub_back(hub: Path, forgery: Forgery) -> None:
    """Leave the versions that the attacker used where the hub counts them, so that it goes on from
    there: its owner finds the stolen hub as the attacker left it."""
    from fleet.trust import directory

    if forgery.fresh is not None:
        with directory.exclusive(hub / "tuf"):
            directory.write_fresh(hub / "tuf", forgery.fresh)


def publish_as_hub(hub: Path, port: int, messages: Mapping[str, bytes]) -> None:
    """Take the hub's place at the broker for a moment, and retain these messages there.

    The hub takes its place back as soon as it can, so it may need more than one try.
    """
    waiting = dict(messages)
    for _ in range(TRIES):
        with _as_hub(hub, port) as client:
            for topic, payload in list(waiting.items()):
                sent = client.publish(topic, payload, qos=1, retain=True)
                try:
                    sent.wait_for_publish(PUBLISH_S / TRIES)
                except (RuntimeError, ValueError):
                    break
                if not sent.is_published():
                    break
                del waiting[topic]
        if not waiting:
            return
    raise CommandFailed("the attacker could not hold the hub's place at the broker")


@contextmanager
def _as_hub(hub: Path, port: int) -> Iterator[Any]:
    from paho.mqtt import client as mqtt
    from paho.mqtt.enums import CallbackAPIVersion

    connected = Event()
    client = mqtt.Client(CallbackAPIVersion.VERSION2, client_id="hub", protocol=mqtt.MQTTv5)
    client.tls_set(
        ca_certs=str(hub / "ca" / "root.crt"),
        certfile=str(hub / "ca" / "hub.crt"),
        keyfile=str(hub / "ca" / "hub.key"),
    )
    client.on_connect = lambda *_: connected.set()
    client.connect("127.0.0.1", port)
    client.loop_start()
    try:
        connected.wait(CONNECT_S)
        yield client
    finally:
        client.disconnect()
        client.loop_stop()


def _stranger_signs(file: Any, family: str, target: str, manifest: bytes) -> Any:
    """The family's next metadata, which lists `target` too, signed with a key of our own."""
    from copy import deepcopy

    from securesystemslib.signer import CryptoSigner
    from tuf.api.metadata import Metadata, TargetFile

    from contract.targets import ReleaseCustom, custom_to_dict
    from contract.trust import metadata_name
    from fleet.trust.directory import File

    signed = deepcopy(file.signed)
    signed.version += 1
    entry = TargetFile.from_data(target, manifest, ["sha256"])
    entry.unrecognized_fields["custom"] = custom_to_dict(ReleaseCustom(family=family, counter=99))
    signed.targets[target] = entry
    metadata = Metadata(signed)
    metadata.sign(CryptoSigner.generate_ed25519())
    return File(metadata_name(family, signed.version), metadata.to_bytes(), signed)


def _index(hub: Path, files: Mapping[str, bytes]) -> bytes:
    from contract.codec import encode
    from contract.ids import digest_of
    from contract.messages import TufFile, TufIndex
    from fleet.trust.repository import Repository

    listed = {**Repository(hub / "tuf").files(), **files}
    return encode(
        TufIndex(
            files={name: TufFile(len(data), digest_of(data)) for name, data in listed.items()},
            at_ms=_now_ms(),
        )
    )


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
