"""Enrolments that wait for an operator's word: who asks, and the word.

The word is for one key, which the operator has seen: the fingerprint on the device's screen and the
one in the list must be the same. To refuse is to remove the device (fleet.devices).
"""

from __future__ import annotations

from dataclasses import dataclass

import msgspec
from sqlalchemy import select
from sqlalchemy.orm import Session

from contract.enrolment import Claims
from fleet.errors import NothingPending
from fleet.storage.schema import Enrolment


@dataclass(frozen=True)
class Waiting:
    """One request, as an operator sees it."""

    device: str
    key_id: str
    claims: Claims
    asked_at_ms: int
    expires_at_ms: int
    approved: bool


def waiting(session: Session, now_ms: int) -> list[Waiting]:
    """Every request that has not been answered with a certificate yet, by device."""
    rows = session.scalars(
        select(Enrolment)
        .where(Enrolment.asked_at_ms.is_not(None), Enrolment.used_at_ms.is_(None))
        .where(Enrolment.secret.is_not(None), Enrolment.expires_at_ms > now_ms)
        .order_by(Enrolment.device)
    )
    return [_shown(row) for row in rows]


def approve(session: Session, device: str, key_id: str, now_ms: int) -> Waiting:
    """Let the machine with this key enrol as the device; raises `NothingPending`."""
    row = session.get(Enrolment, device)
    if row is None or row.asked_at_ms is None or row.used_at_ms is not None or row.secret is None:
        raise NothingPending(f"no request to enrol {device} waits for approval")
    if row.expires_at_ms <= now_ms:
        raise NothingPending(f"the request of {device} has waited too long: add the device again")
    if row.key_id != key_id:
        raise NothingPending(f"the request of {device} that waits is for another key")
    row.approved_at_ms = now_ms
    return _shown(row)


def _shown(row: Enrolment) -> Waiting:
    return Waiting(
        device=row.device,
        key_id=row.key_id or "",
        claims=msgspec.convert(row.claims or {}, Claims),
        asked_at_ms=row.asked_at_ms or 0,
        expires_at_ms=row.expires_at_ms,
        approved=row.approved_at_ms is not None,
    )
