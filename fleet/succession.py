"""Carries the hub from one CA to the next: gathers the facts, takes the steps that are asked for.

What may follow what is fleet.rotation's to say. Each step is one rename of `ca/rotation.json`;
all else that a stage demands is brought about from that record, again and again until it is so, by
the running hub (fleet.own_certificates) or by the next one that starts. So it may be cut off
anywhere.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import msgspec
from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from contract.trust import TARGETS
from fleet.ca import Authority
from fleet.errors import RotationRefused, RotationUnderWay
from fleet.rotation import (
    Facts,
    Rotation,
    Stage,
    Step,
    decide,
    followed,
    some,
    what_next,
)
from fleet.storage.database import Storage
from fleet.storage.schema import Certificate, Device
from fleet.trust.repository import Repository


@dataclass(frozen=True)
class Outcome:
    """What came of a step."""

    stage: Stage | None
    cut_off: tuple[str, ...]
    """Devices that it cost."""
    next: str


@dataclass(frozen=True)
class Succession:
    """One hub's CA, its signed metadata and its database. Every method looks anew."""

    authority: Authority
    repository: Repository
    storage: Storage

    def make(self, name: str, now_ms: int) -> Outcome:
        """Make the next CA beside the present one; raises `RotationUnderWay`."""
        with self._alone():
            rotation = self._rotation()
            if rotation is not None:
                raise RotationUnderWay(
                    f"a rotation of the CA is under way already, {rotation.stage.value}:"
                    f" {what_next(rotation.stage, self.facts(rotation))}"
                )
            self._name_issuer()
            self.authority.make_next(name, now_ms)
            self.authority.record(Rotation(stage=Stage.MADE, began_ms=now_ms))
            self.authority.write_trusted()
            return self._outcome(())

    def take(self, step: Step, now_ms: int, *, force: bool = False) -> Outcome:
        """Switch, finish or undo; raises `RotationRefused`, which names whom it would cost."""
        with self._alone():
            rotation = self._rotation()
            if rotation is None:
                raise RotationRefused(
                    f"no rotation of the CA is under way, so there is nothing to {step.value}:"
                    " `outrider hub new-ca DIR` begins one"
                )
            self._name_issuer()
            facts = self.facts(rotation)
            verdict = decide(rotation.stage, step, facts)
            if verdict.refusal:
                raise RotationRefused(verdict.refusal)
            if verdict.cut_off and not force:
                raise RotationRefused(
                    f"this would cut off {some(verdict.cut_off)}: wait for them, or give --force"
                )
            old, new = self.authority.signers()
            if verdict.stage is Stage.FINISHING:
                self.authority.keep_former(old, now_ms)
                self.authority.note_given_up(facts.old)
            elif verdict.stage is None:
                self.authority.keep_former(new, now_ms)
                self.authority.note_given_up(facts.new)
            self._go(rotation, verdict.stage)
            return self._outcome(verdict.cut_off)

    def observe(self) -> Rotation | None:
        """Note since when `policy/ca` names the next root too; returns where things stand."""
        with self._alone():
            return self._rotation()

    def note_believed(self) -> None:
        """The broker let a client of the next CA in."""
        with self._alone():
            rotation = self._rotation()
            if rotation is not None and not rotation.believed:
                self.authority.record(msgspec.structs.replace(rotation, believed=True))

    def settle(self) -> None:
        """Bring the files to where the record says they are; does nothing when they are there."""
        with self._alone():
            self._settle()
            if self.authority.rotation() is None:
                self.authority.clear_next()

    def facts(self, rotation: Rotation) -> Facts:
        """What the next decision rests on."""
        old, new = self.authority.roots()
        _, policy = self.repository.trusted_roots()
        issuers = [signer.fingerprint for signer in self.authority.signers()]
        with self.storage.reading() as session:
            versions = _versions(session)
            newest = newest_issuers(session)
        return Facts(
            policy=policy,
            old=old,
            new=new,
            believed=rotation.believed,
            bridged=self.authority.is_bridged(),
            unaware=tuple(sorted(n for n, v in versions.items() if not _holds(v, rotation.named))),
            on_old=_of(newest, issuers[0]) + _of(newest, None),
            on_new=_of(newest, issuers[-1]),
        )

    def standing(self) -> dict[str, Any]:
        """For the status and the command line."""
        rotation = self.authority.rotation()
        facts = self.facts(rotation) if rotation is not None else None
        found: dict[str, Any] = {
            "stage": rotation.stage.value if rotation is not None else None,
            "began_ms": rotation.began_ms if rotation is not None else None,
            "roots": sorted(set(self.authority.roots())),
            "next": what_next(rotation.stage if rotation is not None else None, facts),
            "unaware": len(facts.unaware) if facts is not None else 0,
            "on_old": len(facts.on_old) if facts is not None else 0,
            "believed": facts.believed if facts is not None else None,
            "former_believed": self.authority.pair("former")[0].exists(),
            "former_named": self._names_given_up(),
            "ends_ms": self.authority.ends_ms(),
        }
        return found

    def _names_given_up(self) -> bool:
        """Whether devices are still told to believe a root that this hub has left."""
        given_up = self.authority.given_up()
        _, policy = self.repository.trusted_roots()
        return given_up in (policy or ()) and given_up not in self.authority.roots()

    def _outcome(self, cut_off: tuple[str, ...]) -> Outcome:
        rotation = self.authority.rotation()
        if rotation is None:
            return Outcome(None, cut_off, "")
        return Outcome(rotation.stage, cut_off, what_next(rotation.stage, self.facts(rotation)))

    def _rotation(self) -> Rotation | None:
        """As recorded, after a look at the policy in force."""
        self._settle()
        rotation = self.authority.rotation()
        if rotation is None:
            return None
        version, policy = self.repository.trusted_roots()
        _, new = self.authority.roots()
        noted = followed(rotation, version, policy, new)
        if noted != rotation:
            self.authority.record(noted)
        return noted

    def _go(self, rotation: Rotation, stage: Stage | None) -> None:
        if stage is None:
            self.authority.record(None)
        else:
            self.authority.record(msgspec.structs.replace(rotation, stage=stage))
        self._settle()

    def _settle(self) -> None:
        if self.authority.stage() is Stage.FINISHING:
            self.authority.adopt_next()
            self.authority.record(None)
        self.authority.forget_unfounded_former()
        self.authority.write_trusted()

    def _name_issuer(self) -> None:
        """Rows that name none are the first CA's: of before hubs noted it, or of a hub that has not
        been started again since its program was replaced."""
        issuer = self.authority.signers()[0].fingerprint
        with self.storage.session() as session:
            session.execute(
                update(Certificate).where(Certificate.issuer.is_(None)).values(issuer=issuer)
            )

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """The command line and the running hub take their steps one after the other."""
        handle = os.open(self.authority.directory / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield
        finally:
            os.close(handle)


def newest_issuers(session: Session) -> dict[str, str | None]:
    """Enrolled device -> which intermediate signed its newest certificate that is not revoked."""
    latest = (
        select(Certificate.device, func.max(Certificate.not_after_ms).label("end"))
        .where(Certificate.revoked_at_ms.is_(None))
        .group_by(Certificate.device)
        .subquery()
    )
    rows = session.execute(
        select(Certificate.device, Certificate.issuer)
        .join(Device, Device.name == Certificate.device)
        .join(
            latest,
            (latest.c.device == Certificate.device) & (latest.c.end == Certificate.not_after_ms),
        )
        .where(Device.status == "enrolled", Certificate.revoked_at_ms.is_(None))
    )
    return dict(rows.tuples().all())


def _versions(session: Session) -> dict[str, Mapping[str, int]]:
    wanted = select(Device.name, Device.tuf_versions).where(Device.status == "enrolled")
    return dict(session.execute(wanted).tuples().all())


def _holds(versions: Mapping[str, int], named: int | None) -> bool:
    """Whether a device says that it follows metadata that named the next root."""
    return named is not None and versions.get(TARGETS, 0) >= named


def _of(newest: Mapping[str, str | None], issuer: str | None) -> tuple[str, ...]:
    names: Sequence[str] = [device for device, by in newest.items() if by == issuer]
    return tuple(sorted(names))
