"""`rollback`: gives a family's devices back the release that they had before, all at once.

The release that is left is the one that was rolled out last, among those that the devices hold;
devices that hold another one stay as they are. Open rollouts of the family on those devices are
aborted by it: a rollback must not wait for what it is to undo. Where such a rollout has reached
nobody yet, or only devices that had nothing before, ending it is all that there is to do.
"""

from __future__ import annotations

from dataclasses import dataclass

import msgspec
from sqlalchemy import and_, select
from sqlalchemy.orm import Session

from contract.errors import InvalidId
from contract.ids import check_id
from contract.messages import ProbationPolicy
from fleet.ports import HubServices
from fleet.rollouts.cohort import order
from fleet.rollouts.control import abort_in
from fleet.rollouts.errors import InvalidRollout, NothingToRollBack
from fleet.rollouts.execution import give_back
from fleet.rollouts.history import previous_release
from fleet.rollouts.loading import family_state, open_rollouts, rows_of, subject_of
from fleet.rollouts.saving import record
from fleet.rollouts.selectors import parse_selector
from fleet.rollouts.starting import next_id
from fleet.rollouts.views import (
    UNTOUCHED,
    DeviceStatus,
    Excluded,
    Kind,
    ReleaseRef,
    Spec,
    Status,
)
from fleet.rollouts.words import counted
from fleet.storage.schema import AssignedFamily, Device, Release, Rollout, RolloutDevice

DEADLINE_S = 3_600


@dataclass(frozen=True)
class _Holder:
    """A device, what it holds of the family, and what it had before."""

    device: Device
    digest: str
    previous: ReleaseRef | None


def roll_back(hub: HubServices, family: str, selector: str, actor: str) -> str:
    """Start a rollback, or only abort the open rollout that it would undo; returns either's id.

    Raises `NothingToRollBack` or `InvalidSelector`.
    """
    try:
        check_id(family, "family")
    except InvalidId as error:
        raise InvalidRollout(str(error)) from error
    now_ms = hub.clock()
    with hub.storage.session() as session:
        going_out = _going_out(session, family, selector)
        if going_out and not any(reached for _, reached in going_out):
            return _abort_only(hub, session, going_out, actor, "which had reached no device yet")
        holding = _holding(session, family, selector)
        left = _left(session, family, selector, {digest for _, digest in holding})
        holders = [
            _Holder(device, digest, _previous(session, device, family, digest))
            for device, digest in holding
            if digest == left.digest
        ]
        going = {h.device.name: h for h in holders if h.previous is not None}
        if not going and going_out:
            why = "as nothing was served before that devices could go back to"
            return _abort_only(hub, session, going_out, actor, why)
        if not going:
            raise NothingToRollBack(
                f"no device that {selector!r} names had another release of {family} before"
                f" {left.target.replace('/', ':')}"
            )
        rollout = _add_rollout(session, family, selector, left, holders, actor, now_ms)
        _abort_others(hub, session, rollout, set(going))
        _add_devices(session, rollout, going)
        reason = f"{actor} rolled {left.target} back on {counted(len(going), 'device')}"
        record(session, rollout, "revert", reason, {"reverting": sorted(going)}, now_ms)
        for row in rows_of(session, rollout.id):
            give_back(session, rollout, row, now_ms)
    hub.link.wake()
    return rollout.id


def _going_out(session: Session, family: str, selector: str) -> list[tuple[Rollout, bool]]:
    """Rollouts of the family that go on over matching devices, and whether they reached any."""
    parsed, found = parse_selector(selector), []
    for rollout in open_rollouts(session, family):
        if Status(rollout.status) is Status.REVERTING:
            continue
        members = (
            select(Device, RolloutDevice.status)
            .join(RolloutDevice, RolloutDevice.device == Device.name)
            .where(RolloutDevice.rollout == rollout.id)
        )
        stand = {s for device, s in session.execute(members) if parsed.matches(subject_of(device))}
        if stand:
            found.append((rollout, any(DeviceStatus(s) not in UNTOUCHED for s in stand)))
    return found


def _abort_only(
    hub: HubServices, session: Session, rollouts: list[tuple[Rollout, bool]], actor: str, why: str
) -> str:
    """All of them; the id of the first, whose reason names the others."""
    first, *others = [rollout for rollout, _ in rollouts]
    also = f" (with it: {', '.join(other.id for other in others)})" if others else ""
    for rollout in (first, *others):
        abort_in(hub, session, rollout, f"{actor} rolled {rollout.target} back, {why}{also}")
    return first.id


def _holding(session: Session, family: str, selector: str) -> list[tuple[Device, str]]:
    """Matching devices with the digest that they were assigned, or else report to serve."""
    parsed = parse_selector(selector)
    owned = and_(AssignedFamily.device == Device.name, AssignedFamily.family == family)
    wanted = (
        select(Device, AssignedFamily.digest)
        .outerjoin(AssignedFamily, owned)
        .where(Device.status == "enrolled")
    )
    found = []
    for device, assigned in session.execute(wanted):
        state = family_state(device.families, family)
        digest = assigned or (state.serving if state else None)
        if digest is not None and parsed.matches(subject_of(device)):
            found.append((device, digest))
    return found


def _left(session: Session, family: str, selector: str, held: set[str]) -> Release:
    """Of the releases that are held, the one that was rolled out last."""
    if not held:
        who = "nobody" if selector.strip() == "all" else f"no device that {selector!r} names"
        raise NothingToRollBack(f"{who} serves {family}")
    wanted = (
        select(Release)
        .join(Rollout, Rollout.target == Release.target)
        .where(Rollout.family == family, Rollout.kind == Kind.ROLLOUT.value)
        .order_by(Rollout.created_at_ms.desc(), Rollout.id.desc())
    )
    for release in session.scalars(wanted):
        if release.digest in held:
            return release
    raise NothingToRollBack(f"no such device holds a release of {family} that was rolled out")


def _previous(session: Session, device: Device, family: str, digest: str) -> ReleaseRef | None:
    return previous_release(
        session, device.name, family, digest, family_state(device.families, family)
    )


def _add_rollout(
    session: Session,
    family: str,
    selector: str,
    left: Release,
    holders: list[_Holder],
    actor: str,
    now_ms: int,
) -> Rollout:
    without = [Excluded(h.device.name, "had no release before") for h in holders if not h.previous]
    going = len(holders) - len(without)
    policy = ProbationPolicy()
    spec = Spec(
        waves=["100%"], sizes=[going], soak_s=0, deadline_s=DEADLINE_S, excluded=without,
        probation=policy, min_inferences=0,
    )  # fmt: skip
    rollout = Rollout(
        id=next_id(list(session.scalars(select(Rollout.id)))),
        kind=Kind.ROLLBACK.value,
        family=family,
        target=left.target,
        digest=left.digest,
        selector=parse_selector(selector).text,
        spec=msgspec.to_builtins(spec),
        status=Status.REVERTING.value,
        reason=f"asked for by {actor}",
        wave_started_at_ms=now_ms,
        created_at_ms=now_ms,
        created_by=actor,
        updated_at_ms=now_ms,
    )
    session.add(rollout)
    session.flush()
    return rollout


def _abort_others(hub: HubServices, session: Session, rollout: Rollout, devices: set[str]) -> None:
    for other in open_rollouts(session, rollout.family):
        rows = () if other.id == rollout.id else rows_of(session, other.id)
        if any(row.device in devices for row in rows):
            abort_in(hub, session, other, f"aborted by rollback {rollout.id}")


def _add_devices(session: Session, rollout: Rollout, going: dict[str, _Holder]) -> None:
    for position, device in enumerate(order(rollout.id, going)):
        previous = going[device].previous
        assert previous is not None  # noqa: S101 - narrows the type; the caller chose these
        session.add(
            RolloutDevice(
                rollout=rollout.id,
                device=device,
                position=position,
                wave=0,
                status=DeviceStatus.WAITING.value,
                previous_target=previous.target,
                previous_digest=previous.digest,
                detail="",
                evidence={},
            )
        )
    session.flush()
