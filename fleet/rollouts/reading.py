"""Counts stored reports into a rollout's devices, each report exactly once.

The cursor and the sums are committed together, so that a restart neither counts twice nor skips. It
passes over the reports of other devices, too: what a tick reads is bounded, whoever reports.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec
from sqlalchemy import Select, func, select
from sqlalchemy.orm import Session

from contract.messages import Report
from fleet.rollouts.traffic import Traffic, count, window_of
from fleet.storage.schema import Rollout, RolloutDevice, StoredReport

BATCH = 2_000


def uncounted(session: Session, rollout: Rollout) -> bool:
    """Whether there is something to count, or so much of other devices that it is passed over."""
    end = _end(session, rollout)
    newest = session.scalar(select(func.max(StoredReport.id))) or 0
    return newest > end or session.scalar(_wanted(rollout, end).limit(1)) is not None


def count_reports(session: Session, rollout: Rollout, rows: Mapping[str, RolloutDevice]) -> bool:
    """Count the next batch; returns whether that was all."""
    end = _end(session, rollout)
    found = list(session.scalars(_wanted(rollout, end)))
    traffic: dict[str, Traffic] = {}
    for stored in found:
        row = rows[stored.device]
        before = traffic.get(stored.device) or msgspec.convert(row.evidence, Traffic)
        traffic[stored.device] = _counted(before, stored, rollout, row)
    for device, sums in traffic.items():
        rows[device].evidence = msgspec.to_builtins(sums)
    rollout.report_cursor = end
    return end == (session.scalar(select(func.max(StoredReport.id))) or end)


def _counted(
    traffic: Traffic, stored: StoredReport, rollout: Rollout, row: RolloutDevice
) -> Traffic:
    try:
        report = msgspec.convert(stored.body, Report)
    except msgspec.ValidationError:  # stored by a program that wrote reports in another form
        return traffic
    window = window_of(report, rollout.family, stored.received_at_ms)
    if window is None:
        return traffic
    return count(traffic, window, rollout.digest, rollout.created_at_ms, row.assigned_at_ms)


def _end(session: Session, rollout: Rollout) -> int:
    """The last of the next `BATCH` reports of any device; the cursor itself when there is none."""
    following = (
        select(StoredReport.id)
        .where(StoredReport.id > rollout.report_cursor)
        .order_by(StoredReport.id)
        .limit(BATCH)
        .subquery()
    )
    return session.scalar(select(func.max(following.c.id))) or rollout.report_cursor


def _wanted(rollout: Rollout, end: int) -> Select[tuple[StoredReport]]:
    cohort = select(RolloutDevice.device).where(RolloutDevice.rollout == rollout.id)
    return (
        select(StoredReport)
        .where(StoredReport.id > rollout.report_cursor, StoredReport.id <= end)
        .where(StoredReport.device.in_(cohort))
        .order_by(StoredReport.id)
    )
