"""Routes that read what was stored: events, reports, and who did what."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter
from sqlalchemy import select

from fleet.api import shapes
from fleet.api.access import Actor, Hub
from fleet.api.paging import AfterId, Limit, Name, page
from fleet.storage.schema import AuditEntry, StoredEvent, StoredReport

router = APIRouter(tags=["history"])


@router.get("/events")
def events(
    hub: Hub,
    who: Actor,
    after: AfterId = 0,
    limit: Limit = 200,
    device: Name = "",
    rollout: Name = "",
) -> dict[str, Any]:
    """Deployment events and replies to commands, as they were stored."""
    wanted = select(StoredEvent).where(StoredEvent.id > after).order_by(StoredEvent.id)
    if device:
        wanted = wanted.where(StoredEvent.device == device)
    if rollout:
        wanted = wanted.where(StoredEvent.rollout == rollout)
    with hub.storage.reading() as session:
        found = list(session.scalars(wanted.limit(limit + 1)))
        return page(found, limit, lambda row: row.id, shapes.event)


@router.get("/reports")
def reports(
    hub: Hub, who: Actor, after: AfterId = 0, limit: Limit = 200, device: Name = ""
) -> dict[str, Any]:
    """Window reports, as they were stored."""
    wanted = select(StoredReport).where(StoredReport.id > after).order_by(StoredReport.id)
    if device:
        wanted = wanted.where(StoredReport.device == device)
    with hub.storage.reading() as session:
        found = list(session.scalars(wanted.limit(limit + 1)))
        return page(found, limit, lambda row: row.id, shapes.report)


@router.get("/audit")
def audit(hub: Hub, who: Actor, after: AfterId = 0, limit: Limit = 200) -> dict[str, Any]:
    """Every change that was made or tried through the API, and by whom."""
    wanted = select(AuditEntry).where(AuditEntry.id > after).order_by(AuditEntry.id)
    with hub.storage.reading() as session:
        found = list(session.scalars(wanted.limit(limit + 1)))
        return page(found, limit, lambda row: row.id, shapes.audit_entry)
