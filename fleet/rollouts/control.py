"""Pause, resume and abort: what an operator may do to an open rollout, and what each means.

Each says exactly what happens to the devices that are done, under way, and unaware.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
from msgspec.structs import replace
from sqlalchemy.orm import Session

from contract.deployments import FAILURES
from fleet.ports import HubServices
from fleet.rollouts.comparison import compare
from fleet.rollouts.effects import Effects, effects
from fleet.rollouts.errors import RolloutState
from fleet.rollouts.loading import find_rollout, load_view, spec_of
from fleet.rollouts.saving import finish, record
from fleet.rollouts.views import OPEN, Accepted, Kind, RolloutView, Status
from fleet.rollouts.words import counted, named
from fleet.storage.schema import Rollout


def pause(hub: HubServices, rollout: str, actor: str) -> Effects:
    """Assign nothing more until `resume`. Raises `RolloutNotFound` or `RolloutState`."""
    with hub.storage.session() as session:
        row = _in(session, rollout, (Status.RUNNING,), "paused")
        view = load_view(session, row)
        row.status = Status.PAUSED.value
        row.reason = f"paused by {actor}"
        return _decided(hub, session, row, "pause", view)


def resume(hub: HubServices, rollout: str, actor: str, accept_unproven: bool = False) -> Effects:
    """Go on. The failures and failing checks so far are accepted: the gate counts new ones."""
    with hub.storage.session() as session:
        row = _in(session, rollout, (Status.PAUSED,), "resumed")
        view = load_view(session, row)
        accepted = _accepted(view)
        spec = replace(spec_of(row), accepted=accepted)
        if accept_unproven:
            spec = replace(spec, accept_unproven=True)
        row.spec = msgspec.to_builtins(spec)
        row.status = Status.RUNNING.value
        row.reason = f"resumed by {actor}"
        return _decided(hub, session, row, "resume", view, _accepting(accepted, accept_unproven))


def abort(hub: HubServices, rollout: str, actor: str) -> Effects:
    """End it here; nothing is taken back."""
    with hub.storage.session() as session:
        row = _in(session, rollout, tuple(OPEN), "aborted")
        return abort_in(hub, session, row, f"aborted by {actor}")


def abort_in(hub: HubServices, session: Session, row: Rollout, reason: str) -> Effects:
    """`abort` within the caller's transaction."""
    view = load_view(session, row)
    extra = "Devices that go back already do so." if view.status is Status.REVERTING else ""
    row.reason = reason
    told = _decided(hub, session, row, "abort", view, extra)
    finish(session, row, Status.ABORTED, reason, hub.clock())
    return told


def _in(session: Session, rollout: str, allowed: Sequence[Status], verb: str) -> Rollout:
    row = find_rollout(session, rollout)
    if Status(row.status) not in allowed:
        may = " or ".join(sorted(status.value for status in allowed))
        raise RolloutState(
            f"rollout {rollout} is {row.status}; only one that is {may} can be {verb}"
        )
    if row.kind == Kind.ROLLBACK.value and verb != "aborted":
        raise RolloutState(f"rollout {rollout} is a rollback, which cannot be {verb}")
    return row


def _decided(
    hub: HubServices, session: Session, row: Rollout, verb: str, view: RolloutView, extra: str = ""
) -> Effects:
    told = effects(verb, [d.progress for d in view.devices], extra)
    record(session, row, verb, row.reason, {"effects": msgspec.to_builtins(told)}, hub.clock())
    return told


def _accepted(view: RolloutView) -> Accepted:
    before = view.spec.accepted
    failed = [d.progress.device for d in view.devices if d.progress.outcome in FAILURES]
    failing = [c.name for c in compare(view.devices, view.spec.probation).failing()]
    return Accepted(
        devices=sorted({*before.devices, *failed}), checks=sorted({*before.checks, *failing})
    )


def _accepting(accepted: Accepted, unproven: bool) -> str:
    parts = []
    if accepted.devices:
        failures = counted(len(accepted.devices), "failure")
        parts.append(f"{failures} accepted ({named(accepted.devices, 10)})")
    if accepted.checks:
        parts.append(f"failing checks accepted ({', '.join(accepted.checks)})")
    if unproven:
        parts.append("unproven devices count as successes")
    told = "; ".join(parts)
    return f"{told[:1].upper()}{told[1:]}." if told else ""
