"""How a hub goes from one CA to the next: the stages, what each means, and what may follow. Pure.

    (none) --make--> MADE --switch--> SWITCHED --finish--> FINISHING --> (none, under the new CA)
                     <----undo----             (from here on there is no way back)
    (none) <--undo--

In MADE and SWITCHED both CAs are believed. What is asked for is refused where it would part devices
from their hub for good, and asks for `--force` where it would cost some of them, whom it names.
Everything that a stage decides for the other modules is decided here.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

import msgspec

from contract.ids import TimeMs

NAMED_AT_MOST = 8
"""Devices that a message names; the others are counted."""


_NAME_BOTH = (
    "name both roots with the offline keys (`outrider keys ca KEYS --root DIR/ca/root.crt"
    " --root DIR/ca/next/root.crt`), then publish trust.json"
)
NOT_BELIEVED = (
    "wait until the broker lets clients of the next CA in, which the running hub tries; a broker"
    " that others run needs DIR/ca/trusted.crt"
)

DEVICES_FOLLOW = (
    "devices follow policy/ca at their next refresh: within four hours, unless"
    " OUTRIDER_REFRESH_SECONDS says otherwise there; within ten minutes once their agent is started"
    " again; at once with a new assignment"
)


class Stage(enum.Enum):
    """Where a rotation stands."""

    MADE = "made"
    """The next CA is there and believed; the present one issues, and the servers stand under it."""
    SWITCHED = "switched"
    """The next one issues, and the servers stand under it."""
    FINISHING = "finishing"
    """The former CA is believed no longer; its files are about to be replaced."""


class Step(enum.Enum):
    """What an operator may ask for."""

    SWITCH = "switch"
    FINISH = "finish"
    UNDO = "undo"


class Rotation(msgspec.Struct, frozen=True, kw_only=True):
    """`ca/rotation.json`. While it is absent there is one CA."""

    schema: int = 1
    stage: Stage
    began_ms: TimeMs
    named: int | None = None
    """The version of `targets` from which on `policy/ca` has named the next root too."""
    believed: bool = False
    """Whether the broker was seen to let in a client of the next CA."""


@dataclass(frozen=True)
class Facts:
    """What a decision rests on. Roots are SHA-256 of their certificates, devices their names."""

    policy: frozenset[str] | None
    """The roots that `policy/ca` names now; None: it names none, and devices keep what they have.
    """
    old: str
    new: str
    believed: bool
    """Whether the broker lets clients of the next CA in."""
    bridged: bool
    """Whether servers under the next CA can also be believed by who knows the old root alone."""
    unaware: tuple[str, ...] = ()
    """Enrolled devices that have not shown yet that they hold the next root."""
    on_old: tuple[str, ...] = ()
    """Enrolled devices whose newest certificate is of the old CA."""
    on_new: tuple[str, ...] = ()


@dataclass(frozen=True)
class Verdict:
    """`stage`: what would follow; None: no rotation. Refused where there is a `refusal`."""

    stage: Stage | None
    refusal: str = ""
    cut_off: tuple[str, ...] = ()
    """Devices that this would cost; it then needs force."""


def next_issues(stage: Stage | None) -> bool:
    """Whether the next CA issues certificates, and the hub's servers stand under its root."""
    return stage in (Stage.SWITCHED, Stage.FINISHING)


def both_believed(stage: Stage | None) -> bool:
    """Whether certificates of either CA are good."""
    return stage in (Stage.MADE, Stage.SWITCHED)


def decide(stage: Stage, step: Step, facts: Facts) -> Verdict:
    """Whether a step may be taken at this stage, and whom it would cost."""
    if stage is Stage.FINISHING:
        return Verdict(stage, "the former CA is given up already: the hub ends the rotation itself")
    if step is Step.SWITCH:
        return _switch(stage, facts)
    if step is Step.FINISH:
        return _finish(stage, facts)
    return _undo(stage, facts)


def followed(rotation: Rotation, version: int, policy: frozenset[str] | None, new: str) -> Rotation:
    """The record after a look at the policy in force, which version `version` of targets holds.

    A root that was named, and then not, has to be learned anew by every device.
    """
    if policy is None or new not in policy:
        return msgspec.structs.replace(rotation, named=None)
    if rotation.named is None:
        return msgspec.structs.replace(rotation, named=version)
    return rotation


def what_next(stage: Stage | None, facts: Facts | None) -> str:
    """One line for the operator; empty when nothing is under way."""
    if stage is None or facts is None:
        return ""
    if stage is Stage.FINISHING:
        return "start the hub, if it does not run: it puts the new CA's files in place"
    if facts.policy is None or facts.new not in facts.policy:
        return _NAME_BOTH
    if stage is Stage.MADE:
        if not facts.believed:
            return NOT_BELIEVED
        if facts.unaware and not facts.bridged:
            return f"wait until {some(facts.unaware)} hold both roots"
        return "`outrider hub new-ca DIR --switch`"
    waiting = _unique(facts.unaware + facts.on_old)
    if waiting:
        return f"wait for {some(waiting)}, then `outrider hub new-ca DIR --finish`"
    return "`outrider hub new-ca DIR --finish`"


def _switch(stage: Stage, facts: Facts) -> Verdict:
    if stage is Stage.SWITCHED:
        return Verdict(stage, "the servers stand under the new CA already; `--finish` comes next")
    if facts.policy is None or not {facts.old, facts.new} <= facts.policy:
        return Verdict(
            stage,
            f"policy/ca does not name both roots yet, so devices would not follow: {_NAME_BOTH}",
        )
    if not facts.believed:
        return Verdict(stage, f"devices with new certificates would be kept out: {NOT_BELIEVED}")
    return Verdict(Stage.SWITCHED, cut_off=() if facts.bridged else facts.unaware)


def _finish(stage: Stage, facts: Facts) -> Verdict:
    if stage is Stage.MADE:
        return Verdict(stage, "the servers still stand under the old CA: `--switch` comes first")
    if facts.policy is None or facts.new not in facts.policy:
        return Verdict(stage, "policy/ca no longer names the new root, so devices would leave")
    return Verdict(Stage.FINISHING, cut_off=_unique(facts.unaware + facts.on_old))


def _undo(stage: Stage, facts: Facts) -> Verdict:
    if facts.policy is not None and facts.old not in facts.policy:
        return Verdict(
            stage,
            "policy/ca no longer names the old root, so devices have left it: name it again with"
            " `outrider keys ca`, publish, and wait for them first",
        )
    if stage is Stage.SWITCHED:
        return Verdict(Stage.MADE)
    return Verdict(None, cut_off=facts.on_new)


def _unique(names: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(sorted(set(names)))


def some(names: tuple[str, ...]) -> str:
    """A list of devices, as far as a line holds it."""
    shown, more = ", ".join(names[:NAMED_AT_MOST]), len(names) - NAMED_AT_MOST
    return f"{shown} and {more} more" if more > 0 else shown
