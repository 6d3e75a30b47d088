"""`GET /status`: how the hub stands, and what an operator at three in the morning should do."""

from __future__ import annotations

import shutil
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from fastapi import APIRouter
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from contract.trust import warn_before_ms
from fleet.api import shapes
from fleet.api.access import Actor, Hub
from fleet.api.problems import problems
from fleet.ca import Authority
from fleet.ports import HubServices
from fleet.revocation import standing
from fleet.rollouts.loading import open_rollouts
from fleet.seen_metadata import lost, read_seen
from fleet.storage.schema import (
    Blob,
    Device,
    Rejected,
    Release,
    Rollout,
    StoredEvent,
    StoredReport,
)
from fleet.succession import Succession

router = APIRouter(tags=["status"])
MAX_NAMED = 8
"""Devices that a problem names."""


@router.get("/status")
def status(hub: Hub, who: Actor) -> dict[str, Any]:
    """Broker, trust, devices, rollouts, refused messages, disk, and the problems among them."""
    now_ms = hub.clock()
    with hub.storage.reading() as session:
        found = {
            "hub": hub.config.name,
            "version": program_version(),
            "at_ms": now_ms,
            "hosts": list(hub.config.hosts),
            "api_port": hub.config.api_port,
            "broker_port": hub.config.broker_port,
            "broker": asdict(hub.link.status()),
            "tuf": _tuf(hub, session, now_ms),
            "devices": _devices(session, now_ms),
            "revocation": standing(hub, session),
            "ca": Succession(
                Authority(hub.directory / "ca"), hub.repository, hub.storage
            ).standing(),
            "rollouts": _rollouts(session),
            "releases": _count(session, Release.target),
            "events": _count(session, StoredEvent.id),
            "reports": _count(session, StoredReport.id),
            "rejected": _rejected(session),
            "storage": _storage(hub, session),
            "bucket": _bucket(hub),
        }
    return found | {"problems": problems(found)}


def program_version() -> str:
    """The installed distribution's, or `0` in a bare checkout."""
    try:
        return version("outrider")
    except PackageNotFoundError:
        return "0"


def _tuf(hub: HubServices, session: Session, now_ms: int) -> dict[str, Any]:
    expiries = hub.repository.expiries()
    soon = {role for role, at_ms in expiries.items() if at_ms <= now_ms + warn_before_ms(role)}
    expired = {role for role, at_ms in expiries.items() if at_ms <= now_ms}
    versions = hub.repository.versions()
    seen = read_seen(session, now_ms)
    return {
        "versions": versions,
        "expiries": expiries,
        "expired": sorted(expired),
        "soon": sorted(soon - expired),
        "lost": lost(seen.versions, versions),
        "beyond": seen.beyond[:MAX_NAMED],
        "new_keys_wait": hub.repository.new_keys_wait(),
    }


def _devices(session: Session, now_ms: int) -> dict[str, int]:
    wanted = select(
        Device.status,
        Device.last_seen_ms,
        Device.heartbeat_s,
        Device.families,
        Device.assignment_seq,
        Device.reported_seq,
    ).where(Device.status != "revoked")
    names = ("total", "expected", "enrolled", "alive", "silent", "on_hold", "behind", "ahead")
    found = dict.fromkeys(names, 0)
    for state, seen_ms, heartbeat_s, families, assigned, reported in session.execute(wanted):
        found["total"] += 1
        found["expected"] += state == "expected"
        if state != "enrolled":
            continue
        alive = shapes.is_alive(seen_ms, heartbeat_s, now_ms)
        found["enrolled"] += 1
        found["alive"] += alive
        found["silent"] += not alive
        found["on_hold"] += any(family.get("hold") for family in families.values())
        found["behind"] += reported < assigned
        found["ahead"] += reported > assigned
    return found


def _rollouts(session: Session) -> dict[str, Any]:
    names = ("id", "kind", "family", "target", "status", "wave", "reason")
    opened = [{n: getattr(row, n) for n in names} for row in open_rollouts(session)]
    return {"open": opened, "total": _count(session, Rollout.id)}


def _rejected(session: Session) -> list[dict[str, Any]]:
    names = ("channel", "error", "count", "last_at_ms", "last_topic")
    rows = session.scalars(select(Rejected).order_by(Rejected.last_at_ms.desc()).limit(50))
    return [{name: getattr(row, name) for name in names} for row in rows]


def _bucket(hub: HubServices) -> dict[str, Any] | None:
    if hub.shelf is None:
        return None
    return {"held": sorted(hub.shelf.held), "trouble": hub.shelf.trouble}


def _storage(hub: HubServices, session: Session) -> dict[str, int]:
    database = hub.directory / "hub.sqlite"
    each = select(Blob.digest, func.max(Blob.size).label("size")).group_by(Blob.digest).subquery()
    count, size = session.execute(select(func.count(), func.sum(each.c.size))).one()
    return {
        "free_bytes": shutil.disk_usage(hub.directory).free,
        "database_bytes": database.stat().st_size if database.exists() else 0,
        "blobs": count,
        "blob_bytes": int(size or 0),
    }


def _count(session: Session, column: Any) -> int:
    return session.scalar(select(func.count(column))) or 0
