"""Releases, devices and stored messages as the API shows them. Pure."""

from __future__ import annotations

from typing import Any

import msgspec

from contract.manifest import decode_manifest
from fleet.storage.schema import AssignedFamily, AuditEntry, Device, Release, StoredEvent
from fleet.storage.schema import StoredReport as Stored

_RELEASE = (
    "target",
    "family",
    "version",
    "digest",
    "counter",
    "device_classes",
    "bundle_bytes",
    "bundle_digest",
    "published_at_ms",
    "published_by",
)
_DEVICE = (
    "name",
    "device_class",
    "labels",
    "status",
    "created_at_ms",
    "enrolled_at_ms",
    "online",
    "last_seen_ms",
    "agent",
    "hardware",
    "heartbeat_s",
    "assignment_seq",
    "published_seq",
    "reported_seq",
    "state_at_ms",
    "families",
    "tuf_versions",
    "outbox_pending",
    "outbox_dropped",
    "free_bytes",
)
_EVENT = (
    "id",
    "kind",
    "device",
    "boot",
    "seq",
    "mono_ms",
    "at_ms",
    "clock_trusted",
    "received_at_ms",
    "family",
    "target",
    "digest",
    "rollout",
    "assignment_seq",
    "phase",
    "outcome",
    "cause",
    "command",
    "ok",
    "detail",
    "figures",
)
_ASSIGNED = ("target", "digest", "rollout", "mode", "deadline_ms", "seq")


def is_alive(last_seen_ms: int | None, heartbeat_s: int, now_ms: int) -> bool:
    """Whether any message came within 2.5 heartbeats."""
    return last_seen_ms is not None and now_ms - last_seen_ms <= 2_500 * heartbeat_s


def release(row: Release) -> dict[str, Any]:
    """With what its manifest says of gate and variants."""
    manifest = decode_manifest(row.manifest)
    return _pick(row, _RELEASE) | {
        "gate": msgspec.to_builtins(manifest.gate),
        "variants": [
            {
                "name": variant.name,
                "runtime": variant.runtime,
                "bytes": variant.model.length,
                "evidence": variant.evidence,
            }
            for variant in manifest.variants
        ],
    }


def device(row: Device, assigned: list[AssignedFamily], now_ms: int) -> dict[str, Any]:
    """What was said of it, what it reports, what it should be."""
    return _pick(row, _DEVICE) | {
        "alive": is_alive(row.last_seen_ms, row.heartbeat_s, now_ms),
        "assigned": {each.family: _pick(each, _ASSIGNED) for each in assigned},
    }


def event(row: StoredEvent) -> dict[str, Any]:
    """An event or a command's reply."""
    return _pick(row, _EVENT)


def report(row: Stored) -> dict[str, Any]:
    """The report as the device sent it, with its row."""
    return {**row.body, "id": row.id, "boot": row.boot, "received_at_ms": row.received_at_ms}


def audit_entry(row: AuditEntry) -> dict[str, Any]:
    """Who did what."""
    return _pick(row, ("id", "at_ms", "actor", "action", "subject", "detail"))


def _pick(row: object, names: tuple[str, ...]) -> dict[str, Any]:
    return {name: getattr(row, name) for name in names}
