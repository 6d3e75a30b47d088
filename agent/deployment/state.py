"""What the journal remembers of one family's deployment: one frozen value.

Holds no rule about how it changes (agent.deployment.machine) and does no I/O.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable
from typing import Annotated

import msgspec
from msgspec import Meta

from contract.deployments import Cause, Outcome, Phase
from contract.ids import Digest, Id, TargetName, TimeMs
from contract.messages import Count, Detail, FamilyAssignment, Figures, Result, Seq

KEPT_FALLBACKS = 2
"""How many earlier releases stay behind the serving one."""


class Stage(enum.Enum):
    """Where the machine stands: the wire's phases, and the moment of going back."""

    IDLE = "idle"
    FETCHING = "fetching"
    VERIFYING = "verifying"
    STAGED = "staged"
    TRIAL = "trial"
    SHADOW = "shadow"
    ACTIVATING = "activating"
    PROBATION = "probation"
    COMMITTED = "committed"
    RESTORING = "restoring"
    """Serving.json and the server are being put back; ends in one of the three below, or in the
    assignment that waits in `queued`."""
    FAILED = "failed"
    REJECTED = "rejected"
    ROLLED_BACK = "rolled-back"

    @property
    def phase(self) -> Phase:
        """As the hub sees it."""
        return Phase.ROLLED_BACK if self is Stage.RESTORING else Phase(self.value)


BEFORE_ACTIVATION = frozenset(
    {Stage.FETCHING, Stage.VERIFYING, Stage.STAGED, Stage.TRIAL, Stage.SHADOW}
)
"""A candidate exists and nothing that serves has been touched."""
RUNNING = BEFORE_ACTIVATION | {Stage.ACTIVATING, Stage.PROBATION, Stage.RESTORING}
SETTLED = frozenset(Stage) - RUNNING


class Attempt(msgspec.Struct, frozen=True):
    """One assignment of one release to this family."""

    seq: Seq
    wanted: FamilyAssignment


class Serving(msgspec.Struct, frozen=True, kw_only=True):
    """An installed release that serves or has served."""

    digest: Digest
    target: TargetName
    variant: Id
    proven: bool = False
    """Whether its good inferences were seen, so that a new seq for it succeeds at once."""


class Baseline(msgspec.Struct, frozen=True, kw_only=True):
    """What the candidate's live behaviour is held against."""

    class_shares: Annotated[list[float], Meta(max_length=4096)] = []
    """Shares in 0..1 that sum to one; empty when there is nothing to compare with."""
    answers: Count = 0
    source: str = ""
    """`previous` (on this very device) or `reference` (the profile's)."""


class Blame(msgspec.Struct, frozen=True):
    """Why it goes back; reported once the previous release serves again."""

    outcome: Outcome
    cause: Cause
    detail: Detail = ""


class Deployment(msgspec.Struct, frozen=True, kw_only=True):
    """One family on this device."""

    family: Id
    stage: Stage = Stage.IDLE
    seq: Seq = 0
    """Of the newest assignment taken up. Only a higher one starts anything."""
    attempt: Attempt | None = None
    """The running attempt, or the one that `last` tells of."""
    queued: Attempt | None = None
    """Taken up as soon as RESTORING is done."""
    variant: str = ""
    """Of the candidate."""
    serving: Serving | None = None
    fallbacks: tuple[Serving, ...] = ()
    """Earlier committed releases, newest first."""
    hold: bool = False
    boots: Count = 0
    """Boots in this stage without progress."""
    crashes: Count = 0
    """Deaths of the server in this probation."""
    retries: Count = 0
    waits_for: Cause | None = None
    """Why the fetch is being retried."""
    waits_why: Detail = ""
    goes_on: bool = False
    """Whether chunks have come since; `waits_for` stays, so that a link that is cut again and again
    is told of once."""
    blame: Blame | None = None
    trial_p95_ms: float = 0.0
    baseline: Baseline = Baseline()
    watched_ms: Count = 0
    """Probation's time in earlier boots."""
    figures: Figures = {}
    last: Result | None = None
    run: Count = 0
    """Grows with each effect sent to the worker; the result of an earlier one is stale."""
    events: Count = 0
    """Grows with each report; part of an event's key."""
    since_ms: TimeMs = 0
    """When the stage was entered."""


def is_overdue(state: Deployment, now_ms: int) -> bool:
    """Whether the assignment's deadline went by and nothing of it serves yet."""
    if state.stage not in BEFORE_ACTIVATION or state.attempt is None:
        return False
    return 0 < state.attempt.wanted.deadline_ms <= now_ms


def downloads(states: Iterable[Deployment]) -> list[str]:
    """The digests whose staging some deployment may yet carry on with."""
    found = []
    for state in states:
        if state.attempt is not None and needs_staging(state):
            found.append(state.attempt.wanted.digest)
        if state.queued is not None:
            found.append(state.queued.wanted.digest)
    return found


def needs_staging(state: Deployment) -> bool:
    """While it is under way, and after an end that says nothing against the bytes."""
    if state.stage in RUNNING:
        return True
    ended = None if state.last is None else state.last.cause
    return state.stage is Stage.FAILED and ended in (Cause.DEADLINE, Cause.OPERATOR)


_ENCODER = msgspec.json.Encoder()
_DECODER = msgspec.json.Decoder(Deployment)


def encode_deployment(state: Deployment) -> bytes:
    """For the journal."""
    return _ENCODER.encode(state)


def decode_deployment(data: bytes) -> Deployment:
    """From the journal; raises `msgspec.MsgspecError` when another program wrote it."""
    return _DECODER.decode(data)
