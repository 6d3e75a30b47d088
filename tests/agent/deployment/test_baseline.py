"""What a candidate is held against, and when there is nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.deployment.baseline import MIN_PREVIOUS_ANSWERS, take_baseline
from agent.deployment.state import Baseline, Serving
from agent.store.layout import Layout
from tests.agent.deployment.device import FAMILY, Device
from tests.agent.deployment.releases import VARIANT, Released


def serving(released: Released) -> Serving:
    return Serving(digest=released.digest, target=released.target, variant=VARIANT)


@pytest.fixture
def served(device: Device, v1: Released, v2: Released) -> Device:
    """v2 serves, v1 is installed, and nobody has asked v2 anything since the server began."""
    device.serve(v1, seq=1)
    device.serve(v2, seq=2)
    device.server.die()
    device.server.start()
    return device


def test_enough_answers_of_the_predecessor_are_the_baseline(
    served: Device, v1: Released, v2: Released
) -> None:
    served.model.answer(MIN_PREVIOUS_ANSWERS, classes=(3, 1, 1))
    found = take(served, v1, serving(v2))
    assert (found.source, found.answers) == ("previous", MIN_PREVIOUS_ANSWERS)
    assert found.class_shares == [0.6, 0.2, 0.2]


def test_too_few_answers_of_the_predecessor_leave_the_reference(
    served: Device, v1: Released, v2: Released
) -> None:
    served.model.answer(MIN_PREVIOUS_ANSWERS - 1)
    assert take(served, v1, serving(v2)).source == "reference"


def test_answers_of_anything_but_the_predecessor_do_not_count(
    served: Device, v1: Released, v3: Released
) -> None:
    served.model.answer(500)
    assert take(served, v1, serving(v3)).source == "reference"
    assert take(served, v1, None).source == "reference"


def test_a_predecessor_with_other_classes_is_not_compared(
    served: Device, v1: Released, v2: Released
) -> None:
    served.model.answer(500, classes=(1, 1, 1, 1))
    assert take(served, v1, serving(v2)).source == "reference"


def test_without_a_server_the_reference_remains(served: Device, v1: Released, v2: Released) -> None:
    served.server.die()
    found = take(served, v1, serving(v2))
    assert (found.source, found.answers) == ("reference", 64)
    assert sum(found.class_shares) == pytest.approx(1.0)


def test_a_release_that_is_not_there_has_no_baseline(device: Device, v1: Released) -> None:
    assert take(device, v1, None) == Baseline()


def test_a_damaged_profile_gives_no_reference(served: Device, v1: Released, v2: Released) -> None:
    path: Path = Layout(served.state_dir).installed(FAMILY, v1.digest)
    (path / "files" / v1.variant.profile.path).write_bytes(b"{")
    assert take(served, v1, serving(v2)) == Baseline()


def take(device: Device, candidate: Released, previous: Serving | None) -> Baseline:
    layout = Layout(device.state_dir)
    return take_baseline(layout, device.server, FAMILY, serving(candidate), previous)
