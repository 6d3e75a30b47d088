"""Verdicts on live traffic: each finding, its words, and what is not held against a candidate."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from agent.deployment.probation import (
    CONSTANT_RUN,
    LATENCY_SLACK_MS,
    Decision,
    Verdict,
    Watched,
    judge,
)
from agent.deployment.state import Baseline
from agent.serving.protocol import ModelCounters, Probed
from contract.deployments import Cause, Evidence
from contract.messages import DriftWindow, FeatureCounts, ProbationPolicy
from model.latency import LatencyCounts

DIGEST, PROFILE = "d" * 64, "e" * 64
POLICY = ProbationPolicy(min_inferences=200, window_s=600)


def counters(
    good: int = 100,
    errors: int = 0,
    invalid: int = 0,
    classes: list[int] | None = None,
    features: dict[str, FeatureCounts] | None = None,
    latency_ms: float = 1.0,
    constant: int = 0,
) -> ModelCounters:
    latencies = LatencyCounts()
    for _ in range(good):
        latencies.add(latency_ms)
    return ModelCounters(
        digest=DIGEST,
        profile=PROFILE,
        inferences=good + errors + invalid,
        good=good,
        errors=errors,
        invalid=invalid,
        latency_counts=latencies.counts(),
        longest_constant_run=constant,
        last_error="bad kernel" if errors else "",
        drift=DriftWindow(
            digest=DIGEST,
            profile=PROFILE,
            features=features or {},
            classes=[34, 33, 33] if classes is None else classes,
        ),
    )


def verdict(seen: ModelCounters, policy: ProbationPolicy = POLICY, **known: object) -> Verdict:
    watched = Watched(counters=seen, good=seen.good, elapsed_ms=1_000, trial_p95_ms=1.0)
    return judge(policy, replace(watched, **known))


def blamed(seen: ModelCounters, policy: ProbationPolicy = POLICY, **known: object) -> str:
    """The detail of a verdict against the candidate, with its cause in front."""
    found = verdict(seen, policy, **known)
    assert found.decision is Decision.ROLL_BACK
    assert found.cause is not None
    return f"{found.cause.value}: {found.detail}"


def test_a_healthy_candidate_goes_on_until_it_has_shown_enough() -> None:
    assert verdict(counters(good=199)).decision is Decision.CONTINUE
    committed = verdict(counters(good=200))
    assert committed.decision is Decision.COMMIT
    assert committed.figures["good_inferences"] == 200
    assert committed.figures["top_class_share"] == pytest.approx(0.34)


def test_good_inferences_of_earlier_lives_count() -> None:
    assert verdict(counters(good=20), good=200).decision is Decision.COMMIT


def test_one_good_answer_is_the_least_that_proves_anything() -> None:
    policy = replace(POLICY, min_inferences=0)
    assert verdict(counters(good=0, classes=[]), policy).decision is Decision.CONTINUE
    assert verdict(counters(good=1, classes=[1, 0, 0]), policy).decision is Decision.COMMIT


def test_a_window_without_traffic_is_unproven_and_says_what_was_missing() -> None:
    found = verdict(counters(good=12), elapsed_ms=600_000)
    assert found.decision is Decision.UNPROVEN
    assert found.detail == "12 good inferences in 600 s; 200 are needed"


def test_errors_are_told_with_their_share_and_the_last_of_them() -> None:
    said = blamed(counters(good=95, errors=5))
    assert said == (
        "inference-errors: 5 of 100 inferences failed (5 %, at most 1 %); the last: bad kernel"
    )


def test_a_few_errors_among_few_answers_prove_nothing_yet() -> None:
    assert verdict(counters(good=10, errors=4)).decision is Decision.CONTINUE


def test_nothing_but_errors_is_enough_early() -> None:
    assert blamed(counters(good=0, errors=5, classes=[])).startswith("inference-errors")


def test_answers_with_nan_are_told() -> None:
    assert blamed(counters(good=90, invalid=10)) == (
        "invalid-output: 10 of 100 answers hold NaN or Inf (10 %, at most 1 %)"
    )


def test_a_constant_output_is_told() -> None:
    assert verdict(counters(constant=CONSTANT_RUN - 1)).decision is Decision.CONTINUE
    assert blamed(counters(constant=120)) == (
        "constant-output: 120 answers in a row were equal while the inputs differed"
    )


def test_a_collapse_names_the_class_and_what_it_had_before() -> None:
    before = Baseline(class_shares=[0.4, 0.3, 0.3], answers=500, source="previous")
    seen = counters(good=120, classes=[5, 0, 115])
    assert blamed(seen, baseline=before, labels=("0", "1", "seven")) == (
        "class-collapse: class 2 (seven) gets 95.8 % of 120 answers"
        " (at most 90 %; the previous gave it 30 %)"
    )


def test_one_class_that_always_prevailed_is_no_collapse() -> None:
    before = Baseline(class_shares=[0.02, 0.02, 0.96], answers=500, source="previous")
    seen = counters(good=120, classes=[5, 0, 115])
    assert verdict(seen, baseline=before).decision is Decision.CONTINUE


def test_a_shift_of_the_mix_is_told_against_the_predecessor() -> None:
    before = Baseline(class_shares=[0.8, 0.1, 0.1], answers=500, source="previous")
    said = blamed(counters(good=150, classes=[15, 15, 120]), baseline=before)
    assert said.startswith("class-shift: the mix of classes is 0.70 away from the previous's")
    assert "gets 10 % and had 80 %" in said or "gets 80 % and had 10 %" in said


def test_few_answers_over_many_classes_are_no_shift() -> None:
    many = 500
    before = Baseline(class_shares=[1 / many] * many, answers=10_000, source="reference")
    seen = counters(good=60, classes=[1] * 60 + [0] * (many - 60))
    assert verdict(seen, baseline=before).decision is Decision.CONTINUE


def test_a_baseline_of_other_classes_is_not_compared() -> None:
    before = Baseline(class_shares=[1.0, 0.0], answers=500, source="previous")
    assert verdict(counters(), baseline=before).decision is Decision.CONTINUE


def test_inputs_out_of_range_name_the_worst_feature() -> None:
    features = {
        "mean": FeatureCounts(bins=[50], n=100, below=10, above=30),
        "std": FeatureCounts(bins=[50], n=100, above=1),
    }
    assert blamed(counters(features=features)) == (
        "input-out-of-range: 40 % of 100 live values of mean lie outside what the model was"
        " calibrated on (at most 25 %)"
    )


@pytest.mark.parametrize(
    ("outside", "decision"), [(17, Decision.CONTINUE), (23, Decision.ROLL_BACK)]
)
def test_a_few_inputs_are_out_of_range_by_chance(outside: int, decision: Decision) -> None:
    features = {"mean": FeatureCounts(bins=[50 - outside], n=50, above=outside)}
    assert verdict(counters(features=features)).decision is decision


def test_inputs_out_of_range_come_before_the_shift_that_they_cause() -> None:
    features = {"mean": FeatureCounts(bins=[50], n=100, above=60)}
    before = Baseline(class_shares=[1.0, 0.0, 0.0], answers=500, source="previous")
    seen = counters(features=features, classes=[0, 50, 50])
    assert blamed(seen, baseline=before).startswith("input-out-of-range")


def test_latency_is_held_against_the_trial_on_this_device() -> None:
    said = blamed(counters(latency_ms=120.0), trial_p95_ms=30.0)
    assert said.startswith("latency: p95 is ")
    assert "times the trial's 30.00 ms (at most 3.0 times)" in said


def test_a_busy_board_is_not_held_against_a_fast_model() -> None:
    slow = counters(latency_ms=LATENCY_SLACK_MS / 2)
    assert verdict(slow, trial_p95_ms=0.1).decision is Decision.CONTINUE


def test_latency_without_a_trial_is_not_judged() -> None:
    slow = counters(latency_ms=5_000.0)
    assert verdict(slow, trial_p95_ms=0.0).decision is Decision.CONTINUE


def probed(passed: bool) -> Probed:
    return Probed(
        digest=DIGEST,
        samples=16,
        passed=passed,
        agreement=1.0 if passed else 0.5,
        max_error=0.0,
        p95_ms=1.0,
        reason="" if passed else "50.0% agree",
    )


def test_probes_are_asked_for_only_when_policy_says_so_and_the_window_is_over() -> None:
    policy = replace(POLICY, evidence=Evidence.PROBE)
    idle = counters(good=0, classes=[])
    assert verdict(idle, policy).decision is Decision.CONTINUE
    assert verdict(idle, policy, elapsed_ms=600_000).decision is Decision.PROBE
    done = verdict(idle, policy, elapsed_ms=600_000, probed=probed(True))
    assert done.decision is Decision.COMMIT
    assert done.figures["probes"] == 16


def test_failed_probes_condemn() -> None:
    idle = counters(good=0, classes=[])
    found = verdict(idle, replace(POLICY, evidence=Evidence.PROBE), probed=probed(False))
    assert found.cause is Cause.TRIAL_FAILED
    assert "50.0% agree" in found.detail


def test_a_smaller_demand_is_judged_on_fewer_answers() -> None:
    policy = replace(POLICY, min_inferences=20)
    assert blamed(counters(good=20, classes=[0, 0, 20]), policy).startswith("class-collapse")


def test_counters_without_drift_are_judged_by_the_rest() -> None:
    seen = replace(counters(good=200), drift=None, latency_counts=[])
    assert verdict(seen).decision is Decision.COMMIT
