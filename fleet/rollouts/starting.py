"""Starts a rollout, or says what starting it would do: release, cohort, waves, conflicts.

One transaction makes the rollout with its whole cohort, all of it waiting; the engine assigns. Only
one rollout of a family may be open on a device.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import msgspec
from sqlalchemy import select
from sqlalchemy.orm import Session

from contract.errors import ContractError, InvalidId, NoVariantFits
from contract.ids import parse_release, target_name
from contract.manifest import Manifest, decode_manifest
from contract.messages import ProbationPolicy
from contract.variants import choose_variant
from fleet.ports import HubServices
from fleet.releases import find_release
from fleet.rollouts.cohort import order, parse_waves, sizes, wave_of
from fleet.rollouts.comparison import MIN_CONTROL
from fleet.rollouts.errors import EmptyCohort, InvalidRollout, RolloutOpen
from fleet.rollouts.loading import OPEN_VALUES, hardware_of, subject_of
from fleet.rollouts.saving import record
from fleet.rollouts.selectors import parse_selector
from fleet.rollouts.thresholds import parse_threshold
from fleet.rollouts.views import (
    DeviceStatus,
    Excluded,
    Kind,
    OnFailure,
    Spec,
    Status,
)
from fleet.storage.schema import Device, Release, Rollout, RolloutDevice, StoredReport

LOOK_BACK_MS = 86_400_000
"""Reports this old at most tell what a device did under its previous release."""
MAX_EXCLUDED = 1_000
NEWEST_REPORTS = 500
"""So many tell how often devices report."""


@dataclass(frozen=True)
class StartRequest:
    """What an operator asks for; checked by `plan_start`."""

    release: str
    selector: str = "all"
    waves: Sequence[str] = ("5%", "25%", "100%")
    soak_s: int = 600
    deadline_s: int = 3_600
    abort_if: str = "failed>10%"
    on_failure: OnFailure = OnFailure.REVERT
    min_inferences: int | None = None
    accept_unproven: bool = False
    metered_bytes: int = 0
    probation: ProbationPolicy = ProbationPolicy()  # noqa: RUF009 - frozen, and never changed


@dataclass(frozen=True)
class StartPlan:
    """What a rollout would be, with the id that it gets if nothing else starts before."""

    id: str
    release: Release
    selector: str
    cohort: tuple[str, ...]
    spec: Spec
    conflict: str | None
    report_s: int | None = None
    """How often the cohort's devices report, as far as their last reports tell."""

    @property
    def waves(self) -> list[list[str]]:
        """The devices that each wave adds."""
        starts = [0, *self.spec.sizes]
        return [list(self.cohort[a:b]) for a, b in zip(starts, self.spec.sizes, strict=False)]

    @property
    def control(self) -> int:
        """Devices held back while the first wave runs."""
        return len(self.cohort) - self.spec.sizes[0]

    @property
    def compares_with_control(self) -> bool:
        """Whether the first gate has enough control devices."""
        return self.control >= MIN_CONTROL


def plan_start(session: Session, request: StartRequest) -> StartPlan:
    """Raises `InvalidSelector`, `InvalidRollout`, `ReleaseNotFound` or `EmptyCohort`."""
    waves = parse_waves(list(request.waves))
    parse_threshold(request.abort_if)
    release = find_release(session, _target(request.release))
    selector = parse_selector(request.selector)
    fitting, excluded = _candidates(session, release, selector.text)
    if not fitting:
        why = f"; {excluded[0].device}: {excluded[0].reason}" if excluded else ""
        raise EmptyCohort(f"selector {selector.text!r} reaches no device{why}")
    rollout = _next_id(session)
    cohort = tuple(order(rollout, fitting))
    spec = _spec(request, sizes(waves, len(cohort)), excluded)
    return StartPlan(
        id=rollout,
        release=release,
        selector=selector.text,
        cohort=cohort,
        spec=spec,
        conflict=conflict(session, release.family, cohort),
        report_s=_report_interval_s(session, cohort),
    )


def start(hub: HubServices, request: StartRequest, actor: str) -> str:
    """Make the rollout; returns its id. Raises what `plan_start` does, and `RolloutOpen`."""
    now_ms = hub.clock()
    with hub.storage.session() as session:
        found = plan_start(session, request)
        if found.conflict:
            raise RolloutOpen(found.conflict)
        rollout = Rollout(
            id=found.id,
            kind=Kind.ROLLOUT.value,
            family=found.release.family,
            target=found.release.target,
            digest=found.release.digest,
            selector=found.selector,
            spec=msgspec.to_builtins(found.spec),
            status=Status.RUNNING.value,
            report_cursor=look_back(session, now_ms),
            created_at_ms=now_ms,
            created_by=actor,
            updated_at_ms=now_ms,
        )
        session.add(rollout)
        session.flush()
        _add_devices(session, found)
        reason = f"{actor} started {found.release.target} to {found.selector}"
        evidence = {"cohort": len(found.cohort), "sizes": found.spec.sizes}
        record(session, rollout, "start", reason, evidence, now_ms)
    return found.id


def conflict(session: Session, family: str, devices: Sequence[str]) -> str | None:
    """One line that names an open rollout of the family on one of the devices."""
    wanted = (
        select(RolloutDevice.device, Rollout)
        .join(Rollout, Rollout.id == RolloutDevice.rollout)
        .where(Rollout.family == family, Rollout.status.in_(OPEN_VALUES))
    )
    cohort = set(devices)
    for device, rollout in session.execute(wanted):
        if device in cohort:
            return (
                f"rollout {rollout.id} ({rollout.target.replace('/', ':')}, {rollout.status}) is"
                f" open on {device}: wait for it, abort it, or choose other devices"
            )
    return None


def look_back(session: Session, now_ms: int) -> int:
    """The last report that is too old to count."""
    old = (
        select(StoredReport.id)
        .where(StoredReport.received_at_ms < now_ms - LOOK_BACK_MS)
        .order_by(StoredReport.received_at_ms.desc(), StoredReport.id.desc())
        .limit(1)
    )
    return session.scalar(old) or 0


def _report_interval_s(session: Session, cohort: Sequence[str]) -> int | None:
    """The longest window among the newest reports: one that was asked for or cut is shorter."""
    wanted = select(StoredReport.device, StoredReport.window_ms).order_by(StoredReport.id.desc())
    members = set(cohort)
    newest = session.execute(wanted.limit(NEWEST_REPORTS))
    windows = [window_ms for device, window_ms in newest if device in members]
    return round(max(windows) / 1_000) if windows else None


def why_unfit(device: Device, release: Release, manifest: Manifest) -> str | None:
    """Why a device cannot run a release, as far as it is known; None when it can."""
    classes = release.device_classes
    if classes and device.device_class not in classes:
        return f"class {device.device_class}; the release is for {', '.join(classes)}"
    hardware = hardware_of(device)
    if hardware is None:
        return None
    try:
        choose_variant(manifest, hardware)
    except NoVariantFits as error:
        return str(error)[:400]
    return None


def read_manifest(release: Release) -> Manifest:
    """The manifest of a published release; it was checked when it was published."""
    try:
        return decode_manifest(release.manifest)
    except ContractError as error:
        raise InvalidRollout(f"{release.target}: {error}") from error


def _target(release: str) -> str:
    try:
        return target_name(*parse_release(release))
    except InvalidId as error:
        raise InvalidRollout(str(error)) from error


def _candidates(
    session: Session, release: Release, selector: str
) -> tuple[list[str], list[Excluded]]:
    parsed, manifest = parse_selector(selector), read_manifest(release)
    fitting: list[str] = []
    excluded: list[Excluded] = []
    for device in session.scalars(select(Device).where(Device.status != "revoked")):
        if not parsed.matches(subject_of(device)):
            continue
        reason = why_unfit(device, release, manifest)
        if device.status != "enrolled":
            reason = "has not enrolled yet; it receives the release after that"
        if reason is None:
            fitting.append(device.name)
        elif len(excluded) < MAX_EXCLUDED:
            excluded.append(Excluded(device.name, reason))
    return fitting, excluded


def _spec(request: StartRequest, cumulative: list[int], excluded: list[Excluded]) -> Spec:
    policy = request.probation
    if request.min_inferences is not None:
        policy = msgspec.structs.replace(policy, min_inferences=request.min_inferences)
    raw = Spec(
        waves=[text.strip() for text in request.waves],
        sizes=cumulative,
        soak_s=request.soak_s,
        deadline_s=request.deadline_s,
        abort_if=request.abort_if.strip(),
        on_failure=request.on_failure,
        min_inferences=policy.min_inferences,
        accept_unproven=request.accept_unproven,
        metered_bytes=request.metered_bytes,
        probation=policy,
        excluded=excluded,
    )
    try:
        return msgspec.convert(msgspec.to_builtins(raw), Spec)
    except msgspec.ValidationError as error:
        raise InvalidRollout(f"the rollout cannot be taken: {error}") from error


def _next_id(session: Session) -> str:
    """`r1`, `r2`, ...: short enough to type, and known to a dry run."""
    return next_id(list(session.scalars(select(Rollout.id))))


def next_id(taken: Sequence[str]) -> str:
    """One above the highest number in use."""
    numbers = [int(text[1:]) for text in taken if text[:1] == "r" and text[1:].isdecimal()]
    return f"r{max(numbers, default=0) + 1}"


def _add_devices(session: Session, found: StartPlan) -> None:
    for position, device in enumerate(found.cohort):
        session.add(
            RolloutDevice(
                rollout=found.id,
                device=device,
                position=position,
                wave=wave_of(position, found.spec.sizes),
                status=DeviceStatus.WAITING.value,
                detail="",
                evidence={},
            )
        )
