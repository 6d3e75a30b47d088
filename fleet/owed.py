"""What the broker does not hold yet: found in the database by comparing, marked when it was taken.

Every row names the broker memory (epoch) that holds it. So nothing is lost between a commit and a
publish, and a broker that lost its memory is owed everything again. Sends nothing itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from sqlalchemy import ColumnElement, CompoundSelect, and_, or_, select, union, update
from sqlalchemy.orm import Session

from contract.envelope import seal
from contract.topics import Channel, device_topic
from fleet.assignments import command_message, message
from fleet.storage.schema import AssignedFamily, Blob, Device, OutgoingCommand, Release, Rollout

BATCH = 256
UNBOUNDED = (1 << 63) - 1
CLEARING = "clearing"
"""Stands in the place of an epoch while a blob leaves the broker; no epoch reads so."""


@dataclass(frozen=True)
class Sealed:
    """A signed message for one device, and what to mark once the broker has it."""

    device: str
    topic: str
    payload: bytes
    mark: int | str
    """The assignment's number, or the command's id."""


def owed_blobs(session: Session, epoch: str, retain_at_most: int = UNBOUNDED) -> list[str]:
    """Digests that devices may soon ask for and that the broker does not hold; in no order.

    Needed are the releases that are assigned to any device or that an open rollout carries; of one
    with a bundle of more than `retain_at_most` bytes, the manifest alone.
    """
    needed = _needed()
    held = select(Blob.digest).where(Blob.published_epoch == epoch)
    rows = session.scalars(
        select(Blob.digest)
        .join(Release, Release.target == Blob.release)
        .where(Blob.release.in_(needed), Blob.digest.not_in(held))
        .where(_retained(retain_at_most))
        .distinct()
        .limit(BATCH)
    )
    return list(rows)


def needed_above(session: Session, above_bytes: int) -> dict[str, bytes]:
    """Manifests, by release, of those that devices may soon ask for and whose bundle is larger."""
    rows = session.execute(
        select(Release.target, Release.manifest)
        .where(Release.target.in_(_needed()), Release.bundle_bytes > above_bytes)
        .order_by(Release.target)
    )
    return {row.target: row.manifest for row in rows}


def unneeded_releases(session: Session, epoch: str) -> list[str]:
    """Releases that the broker holds blobs of although nobody is to have them any more."""
    rows = session.scalars(
        select(Blob.release)
        .where(Blob.published_epoch == epoch, Blob.release.not_in(_needed()))
        .distinct()
    )
    return list(rows)


def start_clearing(session: Session, releases: Sequence[str], epoch: str) -> None:
    """These releases leave the broker: from the commit on, its clearing is owed until it was sent.

    Should one be needed again meanwhile, its blobs are owed as if the broker had never had them.
    """
    session.execute(
        update(Blob)
        .where(Blob.release.in_(releases), Blob.published_epoch == epoch)
        .values(published_epoch=CLEARING)
    )


def owed_blob_clearings(session: Session) -> list[str]:
    """Digests of what leaves the broker, in no order."""
    wanted = select(Blob.digest).where(Blob.published_epoch == CLEARING).distinct().limit(BATCH)
    return list(session.scalars(wanted))


def held_blobs(session: Session, digests: Sequence[str], epoch: str) -> set[str]:
    """Those of `digests` that a release which stays has too: they must not be cleared."""
    held = select(Blob.digest).where(Blob.published_epoch == epoch, Blob.digest.in_(digests))
    return set(session.scalars(held))


def mark_blobs_cleared(session: Session, digests: Sequence[str]) -> None:
    """The broker holds none of these for the releases that left it."""
    session.execute(
        update(Blob)
        .where(Blob.published_epoch == CLEARING, Blob.digest.in_(digests))
        .values(published_epoch=None)
    )


def mark_blobs(session: Session, digests: Sequence[str], epoch: str) -> None:
    """The broker holds these, whichever release they belong to."""
    session.execute(update(Blob).where(Blob.digest.in_(digests)).values(published_epoch=epoch))


def owed_assignments(session: Session, epoch: str, key: Ed25519PrivateKey) -> list[Sealed]:
    """Signed assignments that are newer than what the broker holds."""
    rows = session.scalars(
        select(Device)
        .where(Device.status == "enrolled", Device.assignment_seq > 0)
        .where(_behind(epoch))
        .order_by(Device.name)
        .limit(BATCH)
    )
    return [
        Sealed(
            row.name,
            device_topic(row.name, Channel.ASSIGNMENT),
            seal(message(session, row), key),
            row.assignment_seq,
        )
        for row in rows
    ]


def mark_assignments(session: Session, sent: Sequence[Sealed], epoch: str) -> None:
    """The broker holds these. One that was changed meanwhile stays owed: its number is higher.

    One of a device that was removed meanwhile is not marked: its topics are owed a clearing.
    """
    for each in sent:
        session.execute(
            update(Device)
            .where(Device.name == each.device, Device.status == "enrolled")
            .values(published_seq=each.mark, published_epoch=epoch)
        )


def owed_clearings(session: Session, epoch: str) -> list[str]:
    """Removed devices whose retained topics the broker may still hold."""
    rows = session.scalars(
        select(Device.name)
        .where(Device.status == "revoked")
        .where(or_(Device.published_epoch.is_(None), Device.published_epoch != epoch))
        .limit(BATCH)
    )
    return list(rows)


def mark_cleared(session: Session, names: Sequence[str], epoch: str) -> None:
    """The broker holds nothing of these any more."""
    session.execute(
        update(Device)
        .where(Device.name.in_(names), Device.status == "revoked")
        .values(published_epoch=epoch)
    )


def owed_commands(session: Session, key: Ed25519PrivateKey, now_ms: int) -> list[Sealed]:
    """Signed commands that were not sent and have not expired."""
    rows = session.scalars(
        select(OutgoingCommand)
        .join(Device, Device.name == OutgoingCommand.device)
        .where(OutgoingCommand.published_at_ms.is_(None), OutgoingCommand.expires_at_ms > now_ms)
        .where(Device.status == "enrolled")
        .order_by(OutgoingCommand.issued_at_ms)
        .limit(BATCH)
    )
    return [
        Sealed(
            row.device,
            device_topic(row.device, Channel.COMMAND),
            seal(command_message(row), key),
            row.id,
        )
        for row in rows
    ]


def mark_commands(session: Session, sent: Sequence[Sealed], now_ms: int) -> None:
    """The broker took these."""
    ids = [each.mark for each in sent]
    session.execute(
        update(OutgoingCommand).where(OutgoingCommand.id.in_(ids)).values(published_at_ms=now_ms)
    )


def allowed_blobs(
    session: Session,
    device: str,
    target: str,
    digests: Sequence[str],
    retain_at_most: int = UNBOUNDED,
) -> list[str]:
    """Of the blobs that a device wants for `target`: those that it may have.

    With `retain_at_most`, only what the broker may hold besides (see `owed_blobs`).
    """
    rows = session.scalars(
        select(Blob.digest)
        .join(Release, Release.target == Blob.release)
        .join(
            AssignedFamily,
            and_(AssignedFamily.target == Release.target, AssignedFamily.device == device),
        )
        .where(Release.target == target, Blob.digest.in_(digests))
        .where(_retained(retain_at_most))
    )
    return list(rows)


def _needed() -> CompoundSelect[tuple[str]]:
    carried = select(Rollout.target).where(Rollout.finished_at_ms.is_(None))
    return union(select(AssignedFamily.target), carried)


def _retained(at_most: int) -> ColumnElement[bool]:
    """The manifest always: with it a device learns what else there is to fetch, and how much."""
    return or_(Release.bundle_bytes <= at_most, Blob.digest == Release.digest)


def _behind(epoch: str) -> ColumnElement[bool]:
    return or_(
        Device.published_epoch.is_(None),
        Device.published_epoch != epoch,
        Device.published_seq != Device.assignment_seq,
    )
