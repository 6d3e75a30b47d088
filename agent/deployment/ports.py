"""What the deployment asks of the parts around it, as small protocols; no implementation.

The real ones are agent.trust.guard, agent.serving.client and agent.deployment.trial_process; where
blobs come from is agent.ports.BlobSource.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

from agent.serving.protocol import Activated, Candidate, Probed, ServerCounters, ServerStatus
from agent.trial import TrialResult
from agent.trust.view import TrustedView

Checkpoint = Callable[[str], None]
"""Called at each named point where a power cut would be interesting; does nothing in service."""


class Guard(Protocol):
    """agent.trust.guard.TrustGuard."""

    def refresh(self, targets: Sequence[str]) -> TrustedView:
        """Signed metadata now, with these targets looked up; raises a `DeviceError` by class."""


class InferenceServer(Protocol):
    """agent.serving.client.ServerClient."""

    def status(self) -> ServerStatus:
        """What is served, by which process."""

    def counters(self) -> ServerCounters:
        """Cumulative counts of each served model."""

    def load(self, family: str, digest: str, directory: Path, variant: str) -> Candidate:
        """Load beside what serves."""

    def activate(self, family: str, digest: str) -> Activated:
        """Let a loaded candidate serve."""

    def unload(self, family: str, digest: str) -> None:
        """Forget a candidate, or stop serving."""

    def probe(self, family: str, samples: int = 16) -> Probed:
        """Run golden samples through what serves."""


class Trial(Protocol):
    """agent.deployment.trial_process.run_trial."""

    def __call__(
        self, directory: Path, variant: str, digest: str, cancelled: Callable[[], bool]
    ) -> TrialResult:
        """Raises `TrialFailed`, `Crashed`, `OutOfMemory`, ... when the candidate must not serve."""
