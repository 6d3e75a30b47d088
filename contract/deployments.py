"""The words for how a deployment goes: phases, outcomes and the classes of what went wrong."""

from __future__ import annotations

import enum


class Phase(enum.Enum):
    """Where a family's deployment stands on one device (design: the deployment machine)."""

    IDLE = "idle"
    FETCHING = "fetching"
    VERIFYING = "verifying"
    STAGED = "staged"
    TRIAL = "trial"
    SHADOW = "shadow"
    ACTIVATING = "activating"
    PROBATION = "probation"
    COMMITTED = "committed"
    FAILED = "failed"
    REJECTED = "rejected"
    ROLLED_BACK = "rolled-back"


class Outcome(enum.Enum):
    """How a deployment ended, as the hub counts it."""

    SUCCEEDED = "succeeded"
    UNPROVEN = "unproven"
    FAILED_UNCHANGED = "failed-unchanged"
    ROLLED_BACK = "rolled-back"
    ROLLBACK_FAILED = "rollback-failed"
    REJECTED = "rejected"
    TIMED_OUT = "timed-out"
    SUPERSEDED = "superseded"


FAILURES = frozenset(
    {
        Outcome.FAILED_UNCHANGED,
        Outcome.ROLLED_BACK,
        Outcome.ROLLBACK_FAILED,
        Outcome.REJECTED,
        Outcome.TIMED_OUT,
    }
)
"""The outcomes that a rollout's gate counts against a release."""


class Cause(enum.Enum):
    """The class of an error, kept from the device to `outrider rollout why`.

    The first nine are the trust and transport classes; the rest say why a candidate that arrived
    whole and genuine is not served. `metered`: it does not arrive, as it would cost too much.
    """

    TRANSPORT = "transport"
    STALE = "stale"
    ROLLBACK = "rollback"
    UNTRUSTED = "untrusted"
    TAMPERED = "tampered"
    MALFORMED = "malformed"
    POLICY = "policy"
    DISK_FULL = "disk-full"
    INCOMPATIBLE = "incompatible"
    TRIAL_FAILED = "trial-failed"
    OUT_OF_MEMORY = "out-of-memory"
    CRASHED = "crashed"
    INFERENCE_ERRORS = "inference-errors"
    INVALID_OUTPUT = "invalid-output"
    CONSTANT_OUTPUT = "constant-output"
    CLASS_COLLAPSE = "class-collapse"
    CLASS_SHIFT = "class-shift"
    INPUT_OUT_OF_RANGE = "input-out-of-range"
    LATENCY = "latency"
    NO_EVIDENCE = "no-evidence"
    CRASH_LOOP = "crash-loop"
    DEADLINE = "deadline"
    OPERATOR = "operator"
    METERED = "metered"
    INTERNAL = "internal"


class Mode(enum.Enum):
    """Whether an assigned release serves, or only runs beside the one that does."""

    SERVE = "serve"
    SHADOW = "shadow"


class Evidence(enum.Enum):
    """What a device must show before a candidate is committed."""

    LIVE = "live"
    PROBE = "probe"
