"""Routes of rollouts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

import msgspec
from fastapi import APIRouter, Path, Response
from sqlalchemy import and_, func, select
from sqlalchemy.orm import Session

from contract.deployments import Outcome
from fleet.api import rollout_shapes as shapes
from fleet.api.access import Actor, Hub, audited
from fleet.api.bodies import ResumeBody, RollbackBody, RolloutBody
from fleet.api.paging import AfterId, AfterName, Limit, Name, page
from fleet.ports import HubServices
from fleet.rollouts import control
from fleet.rollouts.effects import Effects
from fleet.rollouts.loading import find_rollout, rows_of, spec_of
from fleet.rollouts.progress import needed_inferences
from fleet.rollouts.rollback import roll_back
from fleet.rollouts.starting import plan_start, start
from fleet.rollouts.views import DeviceStatus, Kind
from fleet.storage.schema import Decision, Rollout, RolloutDevice

router = APIRouter(tags=["rollouts"])
RolloutId = Annotated[str, Path(max_length=63)]
MAX_WAITING = 20


@router.post("/rollouts", status_code=201)
def begin(body: RolloutBody, response: Response, hub: Hub, who: Actor) -> dict[str, Any]:
    """Start a rollout; with `dry_run`, only say what it would be."""
    request = body.request()
    if body.dry_run:
        response.status_code = 200
        with hub.storage.reading() as session:
            return shapes.plan(plan_start(session, request))
    with audited(hub, who, "rollout.start", body.release) as detail:
        detail["rollout"] = rollout = start(hub, request, who)
    return _show(hub, rollout)


@router.get("/rollouts")
def rollouts(
    hub: Hub,
    who: Actor,
    family: Name = "",
    status: Name = "",
    after: AfterName = "",
    limit: Limit = 200,
) -> dict[str, Any]:
    """Rollouts, newest first, without their devices."""
    wanted = select(Rollout).order_by(Rollout.created_at_ms.desc(), Rollout.id.desc())
    if family:
        wanted = wanted.where(Rollout.family == family)
    if status:
        wanted = wanted.where(Rollout.status == status)
    with hub.storage.reading() as session:
        if after:
            last = find_rollout(session, after)
            wanted = wanted.where(
                (Rollout.created_at_ms < last.created_at_ms)
                | ((Rollout.created_at_ms == last.created_at_ms) & (Rollout.id < last.id))
            )
        found = list(session.scalars(wanted.limit(limit + 1)))
        heads = _heads(session, found)
        return page(found, limit, lambda row: row.id, lambda row: heads[row.id])


@router.get("/rollouts/{rollout}")
def one_rollout(hub: Hub, who: Actor, rollout: RolloutId) -> dict[str, Any]:
    """One rollout, wave by wave and device by device."""
    return _show(hub, rollout)


@router.get("/rollouts/{rollout}/why")
def why(
    hub: Hub, who: Actor, rollout: RolloutId, after: AfterId = 0, limit: Limit = 200
) -> dict[str, Any]:
    """Every decision with the evidence that it was reached on, and in words; and what devices
    under way wait for."""
    with hub.storage.reading() as session:
        row = find_rollout(session, rollout)
        wanted = (
            select(Decision)
            .where(Decision.rollout == rollout, Decision.id > after)
            .order_by(Decision.id)
            .limit(limit + 1)
        )
        found = page(list(session.scalars(wanted)), limit, lambda d: d.id, shapes.decision)
        head = {"id": row.id, "target": row.target, "status": row.status, "reason": row.reason}
        return {"rollout": head | {"waiting": _waiting(session, row)}, **found}


def _waiting(session: Session, rollout: Rollout) -> list[dict[str, Any]]:
    """Devices whose fetch is not getting on, and those that lack inferences; a few of them."""
    needed = needed_inferences(spec_of(rollout))
    stuck = and_(
        RolloutDevice.status == DeviceStatus.ASSIGNED.value, RolloutDevice.cause.is_not(None)
    )
    idle = and_(
        RolloutDevice.status == DeviceStatus.SERVING.value, RolloutDevice.good_inferences < needed
    )
    wanted = (
        select(RolloutDevice)
        .where(RolloutDevice.rollout == rollout.id, RolloutDevice.outcome.is_(None))
        .where(stuck | idle)
        .order_by(RolloutDevice.position)
        .limit(MAX_WAITING)
    )
    return [shapes.waiting(row, needed) for row in session.scalars(wanted)]


@router.post("/rollouts/{rollout}/pause")
def pause(hub: Hub, who: Actor, rollout: RolloutId) -> dict[str, Any]:
    """Assign nothing more until it is resumed."""
    with audited(hub, who, "rollout.pause", rollout):
        effects = control.pause(hub, rollout, who)
    return _steered(hub, rollout, effects)


@router.post("/rollouts/{rollout}/resume")
def resume(
    hub: Hub, who: Actor, rollout: RolloutId, body: ResumeBody | None = None
) -> dict[str, Any]:
    """Go on; what failed so far is accepted."""
    accept = body is not None and body.accept_unproven
    with audited(hub, who, "rollout.resume", rollout) as detail:
        detail["accept_unproven"] = accept
        effects = control.resume(hub, rollout, who, accept)
    return _steered(hub, rollout, effects)


@router.post("/rollouts/{rollout}/abort")
def abort(hub: Hub, who: Actor, rollout: RolloutId) -> dict[str, Any]:
    """End it where it stands; nothing is taken back."""
    with audited(hub, who, "rollout.abort", rollout):
        effects = control.abort(hub, rollout, who)
    return _steered(hub, rollout, effects)


@router.post("/rollback", status_code=201)
def rollback(body: RollbackBody, response: Response, hub: Hub, who: Actor) -> dict[str, Any]:
    """Give devices the release back that they had before; 200 when a rollout's end was enough."""
    with audited(hub, who, "rollback", body.family) as detail:
        detail["selector"] = body.selector
        detail["rollout"] = rollout = roll_back(hub, body.family, body.selector, who)
    shown = _show(hub, rollout)
    if shown["kind"] != Kind.ROLLBACK.value:
        response.status_code = 200
    return shown


def _steered(hub: HubServices, rollout: str, effects: Effects) -> dict[str, Any]:
    return {"rollout": _show(hub, rollout), "effects": msgspec.to_builtins(effects)}


def _show(hub: HubServices, rollout: str) -> dict[str, Any]:
    with hub.storage.reading() as session:
        row = find_rollout(session, rollout)
        head = _heads(session, [row])[row.id]
        return shapes.whole(head, row, rows_of(session, row.id), hub.clock())


def _heads(session: Session, rows: Sequence[Rollout]) -> dict[str, dict[str, Any]]:
    """Rollouts by id, counted in the database: a page must not load every device of each."""
    ids = [row.id for row in rows]
    at = RolloutDevice
    alike = (at.rollout, at.wave, at.status, at.outcome)
    counted = select(*alike, func.count(), func.min(at.assigned_at_ms)).group_by(*alike)
    standings: dict[str, list[shapes.Standing]] = {}
    for rollout, wave, status, outcome, count, since in session.execute(
        counted.where(at.rollout.in_(ids))
    ):
        standing = shapes.Standing(
            wave, DeviceStatus(status), Outcome(outcome) if outcome else None, count, since
        )
        standings.setdefault(rollout, []).append(standing)
    taken = (
        select(Decision.rollout, Decision.action, func.min(Decision.at_ms))
        .where(Decision.rollout.in_(ids), Decision.action.in_(shapes.FIRSTS))
        .group_by(Decision.rollout, Decision.action)
    )
    firsts: dict[str, dict[str, int]] = {}
    for rollout, action, at_ms in session.execute(taken):
        firsts.setdefault(rollout, {})[action] = at_ms
    return {
        row.id: shapes.rollout(row, standings.get(row.id, []), firsts.get(row.id, {}))
        for row in rows
    }
