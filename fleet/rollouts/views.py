"""A rollout as the planner sees it: frozen values, made from rows by loading. Holds no rules.

`Progress` is what is stored of a device in a rollout; `Sighting` is what the hub sees of that
device right now; `Traffic` is what its reports say.
"""

from __future__ import annotations

import enum
from typing import Annotated

import msgspec
from msgspec import Meta, field

from contract.deployments import Cause, Outcome
from contract.ids import Digest, TargetName
from contract.messages import FamilyState, ProbationPolicy
from fleet.rollouts.traffic import Traffic

DAY_S = 86_400


class Kind(enum.Enum):
    """A release going out, or one being taken back."""

    ROLLOUT = "rollout"
    ROLLBACK = "rollback"


class Status(enum.Enum):
    """Where a rollout stands."""

    RUNNING = "running"
    PAUSED = "paused"
    REVERTING = "reverting"
    COMPLETED = "completed"
    REVERTED = "reverted"
    ABORTED = "aborted"


OPEN = frozenset({Status.RUNNING, Status.PAUSED, Status.REVERTING})


class DeviceStatus(enum.Enum):
    """Where one device of a rollout stands."""

    WAITING = "waiting"
    ASSIGNED = "assigned"
    SERVING = "serving"
    """It reports the digest; its proof is not complete."""
    DONE = "done"
    REVERTING = "reverting"
    REVERTED = "reverted"
    SKIPPED = "skipped"
    """Never reached: the rollout ended first."""


UNTOUCHED = frozenset({DeviceStatus.WAITING, DeviceStatus.SKIPPED})
UNDER_WAY = frozenset({DeviceStatus.ASSIGNED, DeviceStatus.SERVING})


class OnFailure(enum.Enum):
    """What a failing gate does."""

    REVERT = "revert"
    PAUSE = "pause"


class ReleaseRef(msgspec.Struct, frozen=True):
    """A release: its target's name and its manifest's digest."""

    target: TargetName
    digest: Digest


class Excluded(msgspec.Struct, frozen=True):
    """A device that the selector names and the rollout leaves out."""

    device: str
    reason: str


class Accepted(msgspec.Struct, frozen=True):
    """What an operator took note of by resuming: the gate no longer stops for it."""

    devices: list[str] = []
    checks: list[str] = []


class Spec(msgspec.Struct, frozen=True, kw_only=True):
    """What was asked, and the sizes that it came to. Stored whole."""

    waves: Annotated[list[str], Meta(min_length=1, max_length=20)]
    sizes: list[int]
    """Devices reached after each wave."""
    soak_s: Annotated[int, Meta(ge=0, le=30 * DAY_S)] = 600
    deadline_s: Annotated[int, Meta(ge=1, le=30 * DAY_S)] = 3_600
    abort_if: str = "failed>10%"
    on_failure: OnFailure = OnFailure.REVERT
    min_inferences: Annotated[int, Meta(ge=0, le=1_000_000_000)] = 200
    accept_unproven: bool = False
    metered_bytes: Annotated[int, Meta(ge=0, le=1 << 40)] = 0
    """What the release may cost each device; 0: the device's own bound alone."""
    probation: ProbationPolicy = field(default_factory=ProbationPolicy)
    excluded: list[Excluded] = []
    accepted: Accepted = field(default_factory=Accepted)


class Progress(msgspec.Struct, frozen=True, kw_only=True):
    """One device in one rollout, as it is stored."""

    device: str
    position: int
    wave: int
    status: DeviceStatus = DeviceStatus.WAITING
    previous: ReleaseRef | None = None
    assigned_seq: int = 0
    """Of the assignment that counts: the release's, later that of its taking back."""
    assigned_at_ms: int | None = None
    deadline_ms: int | None = None
    serving_since_ms: int | None = None
    good_inferences: int = 0
    phase: str | None = None
    outcome: Outcome | None = None
    cause: Cause | None = None
    detail: str = ""
    finished_at_ms: int | None = None
    late_outcome: Outcome | None = None


class Sighting(msgspec.Struct, frozen=True, kw_only=True):
    """What the hub knows of a device right now, as far as one family goes."""

    reported_seq: int = 0
    family: FamilyState | None = None
    """From its last verified State."""
    owner: str | None = None
    """The rollout to which the family's assignment belongs."""
    revoked: bool = False
    last_seen_ms: int | None = None


class DeviceView(msgspec.Struct, frozen=True, kw_only=True):
    """One device of a rollout."""

    progress: Progress
    sighting: Sighting = field(default_factory=Sighting)
    traffic: Traffic = field(default_factory=Traffic)


class RolloutView(msgspec.Struct, frozen=True, kw_only=True):
    """A rollout and all its devices, by position."""

    id: str
    kind: Kind
    family: str
    release: ReleaseRef
    spec: Spec
    status: Status
    wave: int = 0
    devices: tuple[DeviceView, ...] = ()
    reports_counted: bool = True
    """Whether every stored report is in `traffic`; until then no wave passes."""
    hearing_since_ms: int | None = 0
    """Since when the hub has been connected to its broker; None: devices cannot be heard."""
