"""A deployment as the hub hears of it: event drafts and the family's reported state. Pure."""

from __future__ import annotations

from typing import Protocol

import msgspec

from agent.deployment import effects as do
from agent.deployment.drafts import EventDraft
from agent.deployment.state import Deployment
from contract.messages import FamilyState, Waiting


class Observed(Protocol):
    """What the last look at the server showed."""

    def serving(self, state: Deployment) -> str | None:
        """The digest that answers the family's requests right now."""

    def good(self, family: str, digest: str) -> int:
        """Its good inferences since it began to serve."""


def draft_of(state: Deployment, report: do.Report, nth: int, at_ms: int) -> EventDraft:
    """One report of the step that led to `state`; `nth` among the step's."""
    return EventDraft(
        key=f"{state.family}:{report.seq}:{state.events + nth}:{at_ms}",
        family=state.family,
        target=report.target,
        digest=report.digest,
        rollout=report.rollout,
        assignment_seq=report.seq,
        phase=report.stage.phase,
        outcome=report.outcome,
        cause=report.cause,
        detail=report.detail,
        figures=report.figures,
    )


def family_state(state: Deployment, observed: Observed) -> FamilyState:
    """What the device says of one family."""
    digest = observed.serving(state)
    named = [s for s in (state.serving, *state.fallbacks) if s is not None and s.digest == digest]
    return FamilyState(
        phase=state.stage.phase,
        serving=digest,
        target=named[0].target if named else None,
        variant=named[0].variant if named else "",
        hold=state.hold,
        good_inferences=observed.good(state.family, digest) if digest else 0,
        last=state.last,
        waits=_waits(state),
    )


def _waits(state: Deployment) -> Waiting | msgspec.UnsetType:
    if state.waits_for is None or state.goes_on:
        return msgspec.UNSET
    return Waiting(state.waits_for, state.waits_why)
