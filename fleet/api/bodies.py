"""The JSON bodies of requests, as FastAPI checks and describes them. Unknown fields are refused."""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal

import msgspec
from pydantic import BaseModel, ConfigDict, Field

from contract.messages import ProbationPolicy
from fleet.rollouts.errors import InvalidRollout
from fleet.rollouts.starting import StartRequest
from fleet.rollouts.views import OnFailure

Label = Annotated[str, Field(max_length=63)]
WaveText = Annotated[str, Field(max_length=16)]
WaveCount = Annotated[int, Field(ge=1, le=9_999_999, strict=True)]
_DAY_S = 86_400


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid")


class DeviceBody(_Body):
    """A device to expect."""

    name: Annotated[str, Field(max_length=63, examples=["cam-1"])]
    device_class: Annotated[str | None, Field(max_length=63)] = None
    """Absent: `generic`, or that of the device that is replaced; so for the labels."""
    labels: Annotated[dict[Label, Label] | None, Field(max_length=32)] = None
    replace: bool = False
    valid_s: Annotated[int, Field(ge=60, le=30 * _DAY_S)] = 3_600


class ApprovalBody(_Body):
    """The key that the operator has seen."""

    key_id: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class HoldBody(_Body):
    """The family whose hold is released."""

    family: Annotated[str, Field(max_length=63)]


class ResumeBody(_Body):
    """How to go on."""

    accept_unproven: bool = False


class RollbackBody(_Body):
    """What to take back."""

    family: Annotated[str, Field(max_length=63, examples=["digits"])]
    selector: Annotated[str, Field(max_length=500)] = "all"


class RolloutBody(_Body):
    """A rollout to start, or (`dry_run`) to plan."""

    release: Annotated[str, Field(max_length=130, examples=["digits:2"])]
    selector: Annotated[str, Field(max_length=500)] = "all"
    waves: Annotated[list[WaveText | WaveCount], Field(min_length=1, max_length=20)] = [
        "5%",
        "25%",
        "100%",
    ]
    soak_s: Annotated[int, Field(ge=0, le=30 * _DAY_S)] = 600
    deadline_s: Annotated[int, Field(ge=1, le=30 * _DAY_S)] = 3_600
    abort_if: Annotated[str, Field(max_length=40)] = "failed>10%"
    on_failure: Literal["revert", "pause"] = "revert"
    min_inferences: Annotated[int | None, Field(ge=1, le=1_000_000_000)] = None
    accept_unproven: bool = False
    metered_bytes: Annotated[int, Field(ge=0, le=1 << 40)] = 0
    probation: Annotated[dict[str, Any], Field(max_length=16)] = {}
    dry_run: bool = False

    def request(self) -> StartRequest:
        """Raises `InvalidRollout` for a probation that is none."""
        return StartRequest(
            release=self.release,
            selector=self.selector,
            waves=[str(wave) for wave in self.waves],
            soak_s=self.soak_s,
            deadline_s=self.deadline_s,
            abort_if=self.abort_if,
            on_failure=OnFailure(self.on_failure),
            min_inferences=self.min_inferences,
            accept_unproven=self.accept_unproven,
            metered_bytes=self.metered_bytes,
            probation=probation_of(self.probation),
        )


def probation_of(overrides: dict[str, Any]) -> ProbationPolicy:
    """The contract's defaults with some fields replaced."""
    unknown = sorted(set(overrides) - set(ProbationPolicy.__struct_fields__))
    if unknown:
        known = ", ".join(ProbationPolicy.__struct_fields__)
        raise InvalidRollout(f"probation: unknown field {unknown[0][:40]!r}; there are {known}")
    for name, value in overrides.items():
        if isinstance(value, float) and not (math.isfinite(value) and value >= 0):
            raise InvalidRollout(f"probation: {name} must be a number from 0 on")
    try:
        return msgspec.convert(overrides, ProbationPolicy)
    except msgspec.ValidationError as error:
        raise InvalidRollout(f"probation: {error}") from error
