"""Decisions, effects and groups in words and values."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from fleet.rollouts.effects import effects
from fleet.rollouts.groups import Ended, current
from fleet.rollouts.selectors import Subject, parse_selector
from fleet.rollouts.views import DeviceStatus, Kind, Progress, ReleaseRef
from fleet.rollouts.words import MAX_LINES, counted, named, words
from tests.fleet.rollouts.simulated_fleet import ROLLS_BACK, fleet

CAMERA = Subject("cam-1", "pi-5", {"site": "lyon"})


def test_a_revert_tells_device_cause_detail_counts_and_against_what() -> None:
    world = fleet(6, ROLLS_BACK)
    world.run()
    revert = world.decisions[2]
    told = "\n".join(words(revert.reason, revert.evidence))
    for part in ("rolled-back", "class-collapse", "97 % are class 3", "1 failed", "5 untouched"):
        assert part in told
    assert "absolute limits only" in told


def test_a_failed_device_tells_what_it_measured() -> None:
    evidence = {"outcome": "rolled-back", "cause": None, "figures": {"trial_p95_ms": 4.25}}
    assert words("cam-1", evidence)[-1] == "the device measured: trial_p95_ms 4.25"


@pytest.mark.parametrize(
    "evidence",
    [
        {},
        {"needed": 1},
        {"devices": ["odd", {}]},
        {"comparison": None},
        {"comparison": {"checks": [{}]}},
        {"outcome": None, "figures": None},
        {"silent": ["cam-1"]},
    ],
)
def test_evidence_of_another_time_never_breaks_the_telling(evidence: dict[str, Any]) -> None:
    assert words("why", evidence)[0] == "why"


def test_the_telling_is_bounded() -> None:
    assert len(words("why", {"devices": [{"device": str(n)} for n in range(900)]})) == MAX_LINES


def progress(status: DeviceStatus) -> Progress:
    return replace(Progress(device="d", position=0, wave=0), status=status)


@pytest.mark.parametrize("verb", ["pause", "resume", "abort"])
def test_effects_say_what_happens_to_the_done_the_under_way_and_the_unaware(verb: str) -> None:
    devices = [progress(status) for status in DeviceStatus]
    found = effects(verb, devices, "And more.")
    assert (found.done.count, found.under_way.count, found.unaware.count) == (2, 3, 2)
    assert found.words.endswith(". And more.")
    assert "2 devices unaware:" in found.words


def ended(id: str, target: str, kind: Kind = Kind.ROLLOUT, selector: str = "all") -> Ended:
    digest = target[-1] * 64
    return Ended(id, kind, ReleaseRef(target, digest), parse_selector(selector))


@pytest.mark.parametrize(
    ("history", "expected"),
    [
        ([], None),
        ([ended("r1", "digits/1")], "r1"),
        ([ended("r2", "digits/2"), ended("r1", "digits/1")], "r2"),
        ([ended("r2", "digits/2", selector="site=paris"), ended("r1", "digits/1")], "r1"),
        (
            [
                ended("r3", "digits/2", Kind.ROLLBACK),
                ended("r2", "digits/2"),
                ended("r1", "digits/1"),
            ],
            "r1",
        ),
        (
            [
                ended("r3", "digits/2", Kind.ROLLBACK, "site=paris"),
                ended("r2", "digits/2"),
            ],
            "r2",
        ),
        (
            [
                ended("r4", "digits/2"),
                ended("r3", "digits/2", Kind.ROLLBACK),
                ended("r2", "digits/2"),
            ],
            "r4",
        ),
        ([ended("r2", "digits/1", Kind.ROLLBACK), ended("r1", "digits/1")], None),
    ],
)
def test_the_current_release_of_a_group(history: list[Ended], expected: str | None) -> None:
    found = current(history, CAMERA)
    assert (found.id if found else None) == expected


def test_one_is_not_many() -> None:
    assert [counted(n, "device") for n in (0, 1, 2)] == ["0 devices", "1 device", "2 devices"]


def test_ten_thousand_silent_devices_are_not_named_one_by_one() -> None:
    assert named(["a", "b", "c"], 2) == "a, b and 1 more"
    (_, line) = words("reason", {"silent": [f"cam-{n}" for n in range(10_000)]})
    assert line.endswith("cam-19 and 9980 more")
