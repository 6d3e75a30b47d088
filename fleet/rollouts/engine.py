"""The shell around the planner: loads, plans, carries out, commits; then wakes the link.

Each rollout is moved in one transaction of its own. Nothing is remembered between two ticks but
what is stored, so a tick after `kill -9` goes on where the last commit stands.
"""

from __future__ import annotations

import logging

from sqlalchemy.orm import Session

from fleet.ports import HubServices
from fleet.rollouts.execution import execute
from fleet.rollouts.loading import load_view, open_rollouts, rows_of, unsettled_rollouts
from fleet.rollouts.newcomers import join_newcomers
from fleet.rollouts.planner import Plan, plan
from fleet.rollouts.reading import count_reports, uncounted
from fleet.rollouts.saving import save_progress
from fleet.rollouts.views import Status
from fleet.storage.schema import Rollout

_LOG = logging.getLogger(__name__)


def tick(hub: HubServices, now_ms: int) -> None:
    """Move every rollout as far as it goes by now. Called once a second, by one thread.

    A rollout that cannot be moved does not hold up the others; its error is raised at the end.
    """
    failure: Exception | None = None
    changed = False
    hearing_since_ms = hub.link.status().connected_since_ms
    for rollout in _due(hub):
        try:
            changed |= _move(hub, rollout, now_ms, hearing_since_ms)
        except Exception as error:  # noqa: BLE001 - the boundary of one rollout; raised below
            _LOG.error("rollout %s could not be moved: %s", rollout, error)
            failure = error
    changed |= join_newcomers(hub, now_ms) > 0
    if changed:
        hub.link.wake()
    if failure is not None:
        raise failure


def _due(hub: HubServices) -> list[str]:
    with hub.storage.reading() as session:
        return [row.id for row in open_rollouts(session)] + unsettled_rollouts(session)


def _move(hub: HubServices, rollout: str, now_ms: int, hearing_since_ms: int | None) -> bool:
    """Look first without the write lock: most ticks have nothing to do."""
    with hub.storage.reading() as session:
        row = session.get_one(Rollout, rollout)
        if _is_judged(row) and uncounted(session, row):
            pass
        elif plan(load_view(session, row, True, hearing_since_ms), now_ms) == Plan():
            return False
    with hub.storage.session() as session:
        return _apply(session, session.get_one(Rollout, rollout), now_ms, hearing_since_ms)


def _apply(session: Session, rollout: Rollout, now_ms: int, hearing_since_ms: int | None) -> bool:
    rows = {row.device: row for row in rows_of(session, rollout.id)}
    counted = count_reports(session, rollout, rows) if _is_judged(rollout) else True
    session.flush()
    view = load_view(session, rollout, counted, hearing_since_ms)
    decided = plan(view, now_ms)
    for progress in decided.progress:
        save_progress(rows[progress.device], progress)
    session.flush()
    for decision in decided.decisions:
        execute(session, rollout, rows, view, decision, now_ms)
        _LOG.info("rollout %s: %s", rollout.id, decision.reason)
    return bool(decided.decisions)


def _is_judged(rollout: Rollout) -> bool:
    """Whether a gate may still ask what the reports say."""
    return Status(rollout.status) in (Status.RUNNING, Status.PAUSED)
