"""The stages of a rotation as a table: what may follow, what is refused, and whom it would cost."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from fleet.rotation import (
    NAMED_AT_MOST,
    Facts,
    Rotation,
    Stage,
    Step,
    both_believed,
    decide,
    followed,
    next_issues,
    some,
    what_next,
)

OLD, NEW, OTHER = "0" * 64, "1" * 64, "2" * 64
BOTH = frozenset({OLD, NEW})
READY = Facts(policy=BOTH, old=OLD, new=NEW, believed=True, bridged=True)
MADE, SWITCHED, FINISHING = Stage.MADE, Stage.SWITCHED, Stage.FINISHING


def facts(**change: Any) -> Facts:
    fields = {name: getattr(READY, name) for name in READY.__dataclass_fields__}
    return Facts(**(fields | change))


@pytest.mark.parametrize(
    ("stage", "step", "then"),
    [
        (MADE, Step.SWITCH, SWITCHED),
        (SWITCHED, Step.FINISH, FINISHING),
        (SWITCHED, Step.UNDO, MADE),
        (MADE, Step.UNDO, None),
    ],
)
def test_each_step_leads_to_one_stage(stage: Stage, step: Step, then: Stage | None) -> None:
    verdict = decide(stage, step, READY)
    assert (verdict.stage, verdict.refusal, verdict.cut_off) == (then, "", ())


@pytest.mark.parametrize(
    ("stage", "step", "change", "words"),
    [
        (MADE, Step.SWITCH, {"policy": None}, "does not name both roots"),
        (MADE, Step.SWITCH, {"policy": frozenset({OLD})}, "does not name both roots"),
        (MADE, Step.SWITCH, {"policy": frozenset({OLD, OTHER})}, "keys ca KEYS"),
        (MADE, Step.SWITCH, {"believed": False}, "would be kept out"),
        (MADE, Step.FINISH, {}, "--switch"),
        (SWITCHED, Step.SWITCH, {}, "already"),
        (SWITCHED, Step.FINISH, {"policy": frozenset({OLD})}, "no longer names the new root"),
        (SWITCHED, Step.FINISH, {"policy": None}, "no longer names the new root"),
        (SWITCHED, Step.UNDO, {"policy": frozenset({NEW})}, "no longer names the old root"),
        (MADE, Step.UNDO, {"policy": frozenset({NEW})}, "no longer names the old root"),
        *((FINISHING, step, {}, "given up already") for step in Step),
    ],
)
def test_what_would_part_the_fleet_from_its_hub_is_refused(
    stage: Stage, step: Step, change: dict[str, Any], words: str
) -> None:
    verdict = decide(stage, step, facts(**change))
    assert words in verdict.refusal
    assert verdict.stage is stage


@pytest.mark.parametrize(
    ("stage", "step", "change", "cut_off"),
    [
        (MADE, Step.SWITCH, {"unaware": ("a",), "bridged": False}, ("a",)),
        (MADE, Step.SWITCH, {"unaware": ("a",), "bridged": True}, ()),
        (MADE, Step.SWITCH, {"on_old": ("a",)}, ()),
        (SWITCHED, Step.FINISH, {"unaware": ("b",), "on_old": ("a", "b")}, ("a", "b")),
        (SWITCHED, Step.FINISH, {"on_new": ("a",)}, ()),
        (SWITCHED, Step.UNDO, {"on_new": ("a",), "unaware": ("b",)}, ()),
        (MADE, Step.UNDO, {"on_new": ("a",)}, ("a",)),
    ],
)
def test_a_step_names_the_devices_that_it_would_cost(
    stage: Stage, step: Step, change: dict[str, Any], cut_off: tuple[str, ...]
) -> None:
    verdict = decide(stage, step, facts(**change))
    assert (verdict.refusal, verdict.cut_off) == ("", cut_off)


def test_the_former_ca_is_believed_until_there_is_no_way_back() -> None:
    assert [both_believed(s) for s in (None, MADE, SWITCHED, FINISHING)] == [
        False,
        True,
        True,
        False,
    ]
    assert [next_issues(s) for s in (None, MADE, SWITCHED, FINISHING)] == [
        False,
        False,
        True,
        True,
    ]


def test_the_version_that_first_named_the_root_is_kept_until_the_root_is_dropped() -> None:
    rotation = Rotation(stage=MADE, began_ms=1)
    assert followed(rotation, 3, None, NEW) == rotation
    named = followed(rotation, 4, BOTH, NEW)
    assert named.named == 4
    assert followed(named, 9, frozenset({NEW}), NEW) == named
    dropped = followed(named, 10, frozenset({OLD}), NEW)
    assert dropped.named is None
    assert followed(dropped, 11, BOTH, NEW).named == 11


@pytest.mark.parametrize(
    ("stage", "change", "words"),
    [
        (MADE, {"policy": None}, "outrider keys ca"),
        (MADE, {"believed": False}, "broker"),
        (MADE, {"bridged": False, "unaware": ("cam-1",)}, "wait until cam-1"),
        (MADE, {"unaware": ("cam-1",)}, "--switch"),
        (SWITCHED, {"unaware": ("b",), "on_old": ("a", "b")}, "wait for a, b, then"),
        (SWITCHED, {}, "--finish"),
        (FINISHING, {}, "start the hub"),
    ],
)
def test_the_operator_is_told_what_comes_next(
    stage: Stage, change: dict[str, Any], words: str
) -> None:
    assert words in what_next(stage, facts(**change))


def test_without_a_rotation_nothing_comes_next() -> None:
    assert what_next(None, None) == ""


def test_a_long_list_of_devices_is_cut() -> None:
    names = tuple(f"d{n}" for n in range(NAMED_AT_MOST + 3))
    assert some(names).endswith("and 3 more")
    assert some(("a", "b")) == "a, b"


def test_the_record_reads_back_and_a_foreign_stage_is_refused() -> None:
    rotation = Rotation(stage=SWITCHED, began_ms=5, named=7, believed=True)
    data = msgspec.json.encode(rotation)
    assert msgspec.json.decode(data, type=Rotation) == rotation
    with pytest.raises(msgspec.ValidationError):
        msgspec.json.decode(b'{"stage":"other","began_ms":1}', type=Rotation)
