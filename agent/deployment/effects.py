"""What the machine asks of the shell: its outputs. Values only; each is safe to carry out twice."""

from __future__ import annotations

import msgspec

from agent.deployment.state import Stage
from contract.deployments import Cause, Outcome
from contract.messages import Figures


class Effect(msgspec.Struct, frozen=True, kw_only=True):
    """Something to be done after the state is in the journal."""


class WorkerEffect(Effect, frozen=True, kw_only=True):
    """May take long: done on a worker thread, and answered by an event."""


class SwitchEffect(WorkerEffect, frozen=True, kw_only=True):
    """Concerns what serves: on a thread of its own, so that no download delays a way back."""


class Fetch(WorkerEffect, frozen=True, kw_only=True):
    """Refresh trust, admit the release, bring its bytes into staging."""


class Verify(WorkerEffect, frozen=True, kw_only=True):
    """Check every file again and move the release into the store."""


class Admit(WorkerEffect, frozen=True, kw_only=True):
    """See whether there is memory for a trial."""


class Try(WorkerEffect, frozen=True, kw_only=True):
    """Run the golden samples in a child process."""


class LoadBeside(SwitchEffect, frozen=True, kw_only=True):
    """Load the candidate in the server, where it answers nobody."""


class Activate(SwitchEffect, frozen=True, kw_only=True):
    """Load the candidate, write serving.json, switch the server over."""


class Restore(SwitchEffect, frozen=True, kw_only=True):
    """Write serving.json back and switch the server back. Needs no network."""


class Settle(SwitchEffect, frozen=True, kw_only=True):
    """Make serving.json say what the journal says, and the server forget a candidate."""


class Tidy(WorkerEffect, frozen=True, kw_only=True):
    """Forget downloads and releases that nothing needs. In order with the fetches."""


class Watch(Effect, frozen=True, kw_only=True):
    """Begin to watch the live stream."""


class RetryLater(Effect, frozen=True, kw_only=True):
    """Post `RetryDue` after a backoff that grows with `tries`."""

    tries: int


class Cancel(Effect, frozen=True, kw_only=True):
    """Stop the worker's effect for this family; what it has stored stays good."""


class Report(Effect, frozen=True, kw_only=True):
    """Tell the hub. Journalled together with the state that makes it true."""

    target: str
    digest: str
    rollout: str | None
    seq: int
    stage: Stage
    outcome: Outcome | None = None
    cause: Cause | None = None
    detail: str = ""
    figures: Figures = {}
