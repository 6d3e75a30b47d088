"""Starting: who is in, who is left out and why, and what stands in the way."""

from __future__ import annotations

from typing import Any

import pytest

from contract.messages import Hardware, ProbationPolicy
from fleet.devices import remove_device
from fleet.errors import ReleaseNotFound
from fleet.rollouts.control import abort
from fleet.rollouts.errors import EmptyCohort, InvalidRollout, InvalidSelector, RolloutOpen
from fleet.rollouts.starting import StartRequest, next_id, plan_start
from fleet.storage.schema import Device, Release
from tests.fleet.rollouts.stored_fleet import StoredFleet


def planned(stored: StoredFleet, **request: Any) -> Any:
    with stored.hub.storage.reading() as session:
        return plan_start(session, StartRequest(**({"release": "digits:2"} | request)))


def test_a_plan_is_what_starting_then_does(six: StoredFleet) -> None:
    plan = planned(six, waves=["1", "3", "6"])
    rollout = six.start("2", waves=["1", "3", "6"])
    rows = sorted(six.rows(rollout).values(), key=lambda row: row.position)
    assert plan.id == rollout
    assert list(plan.cohort) == [row.device for row in rows]
    assert [len(wave) for wave in plan.waves] == [1, 2, 3]
    assert [row.wave for row in rows] == [0, 1, 1, 2, 2, 2]


def test_planning_changes_nothing(six: StoredFleet) -> None:
    before = six.seqs()
    assert planned(six).id == planned(six).id
    assert six.seqs() == before


@pytest.mark.parametrize(
    ("request_", "error"),
    [
        ({"release": "digits"}, InvalidRollout),
        ({"release": "digits:9"}, ReleaseNotFound),
        ({"selector": "nonsense"}, InvalidSelector),
        ({"selector": "name=no-*"}, EmptyCohort),
        ({"waves": ["0%"]}, InvalidRollout),
        ({"abort_if": "often"}, InvalidRollout),
        ({"soak_s": -1}, InvalidRollout),
        ({"deadline_s": 0}, InvalidRollout),
    ],
)
def test_what_cannot_be_started(
    six: StoredFleet, request_: dict[str, Any], error: type[Exception]
) -> None:
    with pytest.raises(error) as refused:
        planned(six, **request_)
    assert "\n" not in str(refused.value)


def test_a_second_rollout_of_the_family_on_a_device_is_refused_and_names_the_first(
    six: StoredFleet,
) -> None:
    first = six.start("2", selector="name=cam-1", waves=["1"])
    assert first in planned(six).conflict
    with pytest.raises(RolloutOpen, match=rf"{first} \(digits:2, running\) is open on cam-1"):
        six.start("2", waves=["1"])
    six.start("2", selector="name=cam-2", waves=["1"])
    abort(six.hub, first, "test")
    six.start("2", selector="name=cam-1", waves=["1"])


def test_devices_that_cannot_run_the_release_are_left_out_with_the_reason(
    six: StoredFleet,
) -> None:
    with six.hub.storage.session() as session:
        session.get_one(Device, "cam-0").device_class = "pi-zero"
        session.get_one(Device, "cam-1").hardware = {"machine": "armv6l", "runtimes": {}}
        session.get_one(Device, "cam-2").status = "expected"
        session.get_one(Release, "digits/2").device_classes = ["generic"]
    remove_device(six.hub, "cam-3")
    plan = planned(six)
    assert sorted(plan.cohort) == ["cam-4", "cam-5"]
    reasons = {excluded.device: excluded.reason for excluded in plan.spec.excluded}
    assert "class pi-zero" in reasons["cam-0"]
    assert "onnxruntime, which is not installed" in reasons["cam-1"]
    assert "has not enrolled" in reasons["cam-2"]
    assert "cam-3" not in reasons


def test_known_hardware_that_fits_stays_in(six: StoredFleet) -> None:
    fits = Hardware(machine="aarch64", runtimes={"onnxruntime": "1.23.0"})
    with six.hub.storage.session() as session:
        session.get_one(Device, "cam-0").hardware = {
            "machine": fits.machine,
            "runtimes": fits.runtimes,
        }
    assert "cam-0" in planned(six).cohort


def test_the_report_interval_is_known_from_the_cohorts_own_reports(six: StoredFleet) -> None:
    assert planned(six).report_s is None
    six.report("cam-1", six.bad)
    assert planned(six).report_s == 60
    assert planned(six, selector="name=cam-2").report_s is None


def test_min_inferences_reaches_the_devices_probation(six: StoredFleet) -> None:
    plan = planned(six, min_inferences=7, probation=ProbationPolicy(window_s=60))
    assert (plan.spec.min_inferences, plan.spec.probation.min_inferences) == (7, 7)
    assert plan.spec.probation.window_s == 60
    assert planned(six).spec.min_inferences == ProbationPolicy().min_inferences


def test_ids_count_on() -> None:
    assert next_id([]) == "r1"
    assert next_id(["r2", "r10", "odd", "rx"]) == "r11"
