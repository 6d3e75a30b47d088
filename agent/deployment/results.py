"""How an end is recorded and how a step is told: the values that the machine's handlers build.

Decides no transition (agent.deployment.machine does).
"""

from __future__ import annotations

import math
from typing import Any

from msgspec.structs import replace

from agent.deployment import effects as do
from agent.deployment.drafts import clip
from agent.deployment.state import Attempt, Deployment, Serving, Stage
from contract.deployments import Cause, Outcome
from contract.messages import Figures, Result

ADDED_UP = frozenset({"bytes_fetched", "chunks_fetched"})
"""Figures that grow from one try to the next; others are replaced."""


def settle(
    state: Deployment,
    stage: Stage,
    outcome: Outcome,
    cause: Cause | None = None,
    detail: str = "",
    at_ms: int = 0,
) -> tuple[Deployment, tuple[do.Effect, ...]]:
    """A terminal stage: the result is bound to (seq, family, digest), and told."""
    attempt = attempt_of(state)
    result = Result(
        seq=attempt.seq,
        target=attempt.wanted.target,
        digest=attempt.wanted.digest,
        outcome=outcome,
        cause=cause,
        detail=clip(detail),
        at_ms=at_ms,
    )
    settled = replace(state, stage=stage, boots=0, waits_for=None, blame=None, last=result)
    return settled, (report(settled, outcome, cause, detail), do.Settle(), do.Tidy())


def report(
    state: Deployment,
    outcome: Outcome | None = None,
    cause: Cause | None = None,
    detail: str = "",
) -> do.Report:
    """Tell of the running attempt, with every figure that is known by now."""
    return _report(attempt_of(state), state, outcome, cause, detail)


def superseded(state: Deployment, old: Attempt, by: Attempt) -> do.Report:
    """Tell that a running (or waiting) attempt made way for a newer one."""
    detail = f"{by.wanted.target} came with seq {by.seq} while this was in {state.stage.value}"
    return _report(old, state, Outcome.SUPERSEDED, None, detail)


def with_figures(state: Deployment, figures: Figures, **changes: Any) -> Deployment:
    """The state with these measurements among its own. JSON has no NaN or Inf: they stay out."""
    merged = dict(state.figures)
    for name, value in figures.items():
        if not math.isfinite(value):
            continue
        merged[name] = merged.get(name, 0.0) + value if name in ADDED_UP else value
    return replace(state, figures=merged, **changes)


def candidate_of(state: Deployment) -> Serving:
    """The attempt's release, as it will stand in `serving`."""
    wanted = attempt_of(state).wanted
    known = [s for s in (state.serving, *state.fallbacks) if s is not None]
    proven = any(s.digest == wanted.digest and s.proven for s in known)
    return Serving(digest=wanted.digest, target=wanted.target, variant=state.variant, proven=proven)


def attempt_of(state: Deployment) -> Attempt:
    """The attempt that every stage but IDLE has."""
    assert state.attempt is not None, state.stage  # noqa: S101 - narrows the type
    return state.attempt


def _report(
    attempt: Attempt,
    state: Deployment,
    outcome: Outcome | None,
    cause: Cause | None,
    detail: str,
) -> do.Report:
    wanted = attempt.wanted
    return do.Report(
        target=wanted.target,
        digest=wanted.digest,
        rollout=wanted.rollout,
        seq=attempt.seq,
        stage=state.stage,
        outcome=outcome,
        cause=cause,
        detail=clip(detail),
        figures=state.figures,
    )
