"""What can happen to a deployment: the inputs of the machine. Values only.

`at_ms` is when it was noticed; the machine has no clock.
"""

from __future__ import annotations

import msgspec

from agent.deployment.state import Attempt, Baseline
from contract.deployments import Cause
from contract.messages import Figures


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """Something that happened."""

    at_ms: int = 0


class Assigned(Event, frozen=True, kw_only=True):
    """The hub's verified wish for this family."""

    attempt: Attempt
    elsewhere: bool = False
    """Whether the server is known to answer with another release than the journal's, or none."""


class Resumed(Event, frozen=True, kw_only=True):
    """The control process started anew and found this journal."""


class Progressed(Event, frozen=True, kw_only=True):
    """Something lasting was done in this boot: a chunk stored, a stretch of probation watched."""

    watched_ms: int = 0


class Fetched(Event, frozen=True, kw_only=True):
    """Every byte of the chosen variant is in staging, or was already installed."""

    variant: str
    figures: Figures = {}


class Verified(Event, frozen=True, kw_only=True):
    """Each file's digest was checked again and the release is in the store."""

    figures: Figures = {}


class Admitted(Event, frozen=True, kw_only=True):
    """There is memory enough for a trial beside what serves."""


class TrialPassed(Event, frozen=True, kw_only=True):
    """The golden samples came out right on this device's own runtime."""

    p95_ms: float
    figures: Figures = {}


class Activated(Event, frozen=True, kw_only=True):
    """The server answers with the candidate."""

    baseline: Baseline
    figures: Figures = {}


class Failed(Event, frozen=True, kw_only=True):
    """The effect of the current stage could not be carried out."""

    cause: Cause
    detail: str = ""
    figures: Figures = {}


class RetryDue(Event, frozen=True, kw_only=True):
    """The wait after a passing failure is over."""


class ServerDied(Event, frozen=True, kw_only=True):
    """The inference server's process ended while the candidate was on probation."""

    detail: str = ""


class Proven(Event, frozen=True, kw_only=True):
    """The candidate serves and gave enough good inferences (or probes, where policy says so)."""

    figures: Figures = {}


class Unproven(Event, frozen=True, kw_only=True):
    """The window is over: nothing wrong was seen, and too little traffic to prove it right."""

    detail: str = ""
    figures: Figures = {}


class Unwell(Event, frozen=True, kw_only=True):
    """The live stream says that the candidate must not serve."""

    cause: Cause
    detail: str = ""
    figures: Figures = {}


class Restored(Event, frozen=True, kw_only=True):
    """The release before the candidate serves again (or nothing, when there was none)."""

    figures: Figures = {}


class DeadlinePassed(Event, frozen=True, kw_only=True):
    """The assignment's deadline went by."""


class RollbackAsked(Event, frozen=True, kw_only=True):
    """An operator wants the release before this one back."""

    cause: Cause
    detail: str = ""


class HoldReleased(Event, frozen=True, kw_only=True):
    """An operator lifted the hold."""


EVENTS: tuple[type[Event], ...] = (
    Assigned,
    Resumed,
    Progressed,
    Fetched,
    Verified,
    Admitted,
    TrialPassed,
    Activated,
    Failed,
    RetryDue,
    ServerDied,
    Proven,
    Unproven,
    Unwell,
    Restored,
    DeadlinePassed,
    RollbackAsked,
    HoldReleased,
)
