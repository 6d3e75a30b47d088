"""The gate of a wave: a table of what was seen against what it says."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from contract.deployments import Cause, Outcome
from fleet.rollouts.gates import Gate, Verdict, judge, soak_ends_ms
from fleet.rollouts.traffic import Traffic
from fleet.rollouts.views import Accepted, DeviceStatus, DeviceView, RolloutView, Status
from tests.fleet.rollouts.simulated_fleet import START_MS, figures, fleet

OK, BAD, QUIET = Outcome.SUCCEEDED, Outcome.ROLLED_BACK, Outcome.TIMED_OUT
LEFT, TAKEN = Outcome.UNPROVEN, Outcome.SUPERSEDED
PENDING = None


def view_of(*outcomes: Outcome | None, waves: tuple[str, ...] = (), **spec: Any) -> RolloutView:
    """A first wave with these outcomes, reached at START_MS, and two more devices waiting."""
    n = len(outcomes)
    world = fleet(n + 2, waves=waves or (str(n), "100%"), **spec)
    devices: list[DeviceView] = []
    for k, device in enumerate(world.view.devices):
        if k < n:
            outcome = outcomes[k]
            progress = replace(
                device.progress,
                status=DeviceStatus.DONE if outcome else DeviceStatus.ASSIGNED,
                outcome=outcome,
                cause=Cause.CLASS_COLLAPSE if outcome is BAD else None,
                finished_at_ms=START_MS + k if outcome else None,
            )
            device = replace(device, progress=progress)
        devices.append(device)
    return replace(world.view, devices=tuple(devices))


def gate(view: RolloutView, after_s: float = 1_000) -> Gate:
    return judge(view, START_MS + int(after_s * 1_000))


@pytest.mark.parametrize(
    ("outcomes", "abort_if", "verdict"),
    [
        ([OK], "failed>10%", Verdict.PASS),
        ([PENDING], "failed>10%", Verdict.WAIT),
        ([BAD], "failed>10%", Verdict.FAIL),
        ([QUIET], "failed>10%", Verdict.FAIL),
        ([LEFT], "failed>10%", Verdict.STUCK),
        ([TAKEN], "failed>10%", Verdict.STUCK),
        ([OK, TAKEN], "failed>10%", Verdict.PASS),
        ([OK, PENDING], "failed>10%", Verdict.WAIT),
        ([OK, LEFT], "failed>10%", Verdict.STUCK),
        ([OK, BAD], "failed>=2", Verdict.PASS),
        ([OK, BAD], "failed>=1", Verdict.FAIL),
        ([BAD], "failed>=2", Verdict.STUCK),
        ([OK] * 9 + [BAD], "failed>10%", Verdict.PASS),
        ([OK] * 9 + [BAD], "failed>=10%", Verdict.FAIL),
        ([OK] * 9 + [PENDING], "failed>10%", Verdict.PASS),
        ([OK] * 8 + [PENDING] * 2, "failed>10%", Verdict.WAIT),
        ([OK] * 8 + [BAD, QUIET], "failed>10%", Verdict.FAIL),
        ([PENDING] * 8 + [BAD, BAD], "failed>10%", Verdict.FAIL),
    ],
)
def test_verdicts(outcomes: list[Outcome | None], abort_if: str, verdict: Verdict) -> None:
    assert gate(view_of(*outcomes, abort_if=abort_if)).verdict is verdict


def test_the_end_of_the_soak_is_known_while_the_wave_soaks_and_not_else() -> None:
    view = view_of(OK, OK, soak_s=10)
    ends_ms = soak_ends_ms(view, START_MS + 5_000)
    assert ends_ms == START_MS + 1 + 10_000
    assert judge(view, ends_ms - 1).verdict is Verdict.WAIT
    assert judge(view, ends_ms).verdict is Verdict.PASS
    assert soak_ends_ms(view, ends_ms) is None
    assert soak_ends_ms(replace(view, status=Status.PAUSED), START_MS) is None
    assert soak_ends_ms(view_of(OK, PENDING, soak_s=10), START_MS) is None
    assert soak_ends_ms(view_of(TAKEN, soak_s=10), START_MS) is None


def test_the_wave_soaks_from_the_last_success_that_was_needed() -> None:
    view = view_of(OK, OK, soak_s=10)
    assert gate(view, 10).verdict is Verdict.WAIT
    assert "soaking" in gate(view, 9).reason
    assert gate(view, 10.001).verdict is Verdict.PASS


def test_the_last_wave_waits_for_every_device_under_way() -> None:
    view = view_of(*[OK] * 9, PENDING, waves=("10",))
    assert gate(view).verdict is Verdict.WAIT
    assert "waits for 1 device under way" in gate(view).reason


def test_no_wave_passes_while_stored_reports_are_uncounted() -> None:
    assert gate(replace(view_of(OK), reports_counted=False)).verdict is Verdict.WAIT


def test_failures_of_a_small_wave_are_not_thinned_by_a_large_one_before() -> None:
    view = view_of(*[OK] * 20, BAD, waves=("20", "21", "100%"))
    assert gate(replace(view, wave=1)).verdict is Verdict.FAIL


def test_failures_of_earlier_waves_still_count() -> None:
    view = view_of(BAD, BAD, OK, OK, OK, waves=("2", "5", "100%"), abort_if="failed>=2")
    assert gate(replace(view, wave=1)).verdict is Verdict.FAIL


def test_unproven_counts_as_success_only_when_asked() -> None:
    assert gate(view_of(LEFT, LEFT)).verdict is Verdict.STUCK
    assert "2 unproven for lack of live traffic" in gate(view_of(LEFT, LEFT)).reason
    assert gate(view_of(LEFT, LEFT, accept_unproven=True)).verdict is Verdict.PASS


def test_accepted_failures_are_left_out_of_the_reckoning() -> None:
    view = view_of(OK, BAD)
    device = view.devices[1].progress.device
    spec = replace(view.spec, accepted=Accepted(devices=[device]))
    assert gate(view).verdict is Verdict.FAIL
    assert gate(replace(view, spec=spec)).verdict is Verdict.PASS


def with_traffic(view: RolloutView, errors: int) -> RolloutView:
    first = replace(view.devices[0], traffic=Traffic(candidate=figures(errors=errors)))
    return replace(view, devices=(first, *view.devices[1:]))


def test_canaries_whose_traffic_breaks_a_limit_fail_the_gate_although_they_succeeded() -> None:
    found = gate(with_traffic(view_of(OK), errors=200))
    assert found.verdict is Verdict.FAIL
    assert "error-rate 20.00%" in found.reason
    assert "absolute limits only" in found.reason
    assert gate(with_traffic(view_of(OK), errors=2)).verdict is Verdict.PASS


def test_an_accepted_check_lets_the_gate_pass() -> None:
    view = with_traffic(view_of(OK), errors=200)
    spec = replace(view.spec, accepted=Accepted(checks=["error-rate"]))
    assert gate(replace(view, spec=spec)).verdict is Verdict.PASS


def test_the_evidence_names_the_failed_device_and_its_cause() -> None:
    found = gate(view_of(BAD, OK))
    failed = found.evidence["devices"]
    assert [(f["outcome"], f["cause"]) for f in failed] == [("rolled-back", "class-collapse")]
    assert found.evidence["reached"] == 2
    assert found.evidence["untouched"] == 2
    assert found.evidence["threshold"] == "failed>10%"
    assert failed[0]["device"] in found.reason


def test_a_wave_of_which_nobody_is_left_is_no_canary() -> None:
    view = view_of(OK, waves=("1", "100%"))
    gone = replace(view.devices[0].progress, status=DeviceStatus.SKIPPED, outcome=None)
    found = gate(
        replace(view, devices=(replace(view.devices[0], progress=gone), *view.devices[1:]))
    )
    assert found.verdict is Verdict.STUCK
    assert "start another" in found.reason


def test_a_later_wave_of_which_nobody_is_left_is_passed_over() -> None:
    view = view_of(OK, waves=("1", "2", "100%"))
    gone = replace(view.devices[1].progress, status=DeviceStatus.SKIPPED)
    devices = (view.devices[0], replace(view.devices[1], progress=gone), *view.devices[2:])
    assert gate(replace(view, wave=1, devices=devices)).verdict is Verdict.PASS
