"""Counts of one served model."""

from __future__ import annotations

import threading

import numpy as np

from agent.serving.counters import MAX_UNSETTLED, Counters
from model.drift import DriftCounter
from model.profile import build_profile
from tests.agent.serving.tiny_models import INPUTS, OUTPUTS, SAMPLES, WEIGHTS

DIGEST, PROFILE = "1" * 64, "2" * 64


def counters() -> Counters:
    answers = SAMPLES @ WEIGHTS
    profile = build_profile("v", INPUTS, OUTPUTS, {"x": SAMPLES}, {"y": answers})
    return Counters(DIGEST, PROFILE, DriftCounter(profile, PROFILE, DIGEST))


def answer(counted: Counters, x: list[float], y: list[float]) -> None:
    inputs = {"x": np.array([x], np.float32)}
    counted.answered(inputs, {"y": np.array([y], np.float32)}, 1.0)


def test_a_good_answer_counts_in_latency_and_drift() -> None:
    counted = counters()
    counted.answered({"x": SAMPLES}, {"y": SAMPLES @ WEIGHTS}, 2.5)
    found = counted.snapshot()
    assert (found.inferences, found.good, found.invalid, found.errors) == (1, 1, 0, 0)
    assert sum(found.latency_counts) == 1
    assert found.latency_max_ms == 2.5
    assert found.drift is not None
    assert sum(found.drift.classes) == len(SAMPLES)
    assert (found.digest, found.profile) == (DIGEST, PROFILE)


def test_nan_and_inf_are_invalid_and_stay_out_of_drift() -> None:
    counted = counters()
    answer(counted, [1, 2, 3, 4], [np.nan, 0, 0])
    answer(counted, [1, 2, 3, 4], [np.inf, 0, 0])
    found = counted.snapshot()
    assert (found.inferences, found.good, found.invalid) == (2, 0, 2)
    assert found.last_error == "the outputs hold NaN or Inf"
    assert found.drift is not None
    assert sum(found.drift.classes) == 0


def test_failures_refusals_and_probes_are_counted_apart() -> None:
    counted = counters()
    counted.failed("e" * 5_000)
    counted.refused("another shape")
    counted.probed(16)
    found = counted.snapshot()
    assert (found.inferences, found.errors, found.refused, found.probes) == (1, 1, 1, 16)
    assert found.last_error == "another shape"


def test_error_texts_are_bounded() -> None:
    counted = counters()
    counted.failed("e" * 5_000)
    assert len(counted.snapshot().last_error) == 300


def test_equal_outputs_for_differing_inputs_are_a_run() -> None:
    counted = counters()
    for step in range(5):
        answer(counted, [step, 0, 0, 0], [1, 0, 0])
    answer(counted, [9, 0, 0, 0], [0, 1, 0])
    answer(counted, [10, 0, 0, 0], [0, 1, 0])
    assert counted.snapshot().longest_constant_run == 5


def test_an_answer_without_rows_is_an_answer() -> None:
    counted = counters()
    for _ in range(2):  # a detector that found nothing
        counted.answered({"x": SAMPLES[:1]}, {"boxes": np.zeros((0, 4), np.float32)}, 1.0)
    counted.answered({"x": SAMPLES[:1]}, {"boxes": np.ones((2, 4), np.float32)}, 1.0)
    found = counted.snapshot()
    assert (found.inferences, found.good, found.longest_constant_run) == (3, 3, 1)


def test_a_still_scene_is_no_constant_run() -> None:
    counted = counters()
    for _ in range(5):
        answer(counted, [1, 2, 3, 4], [1, 0, 0])
    assert counted.snapshot().longest_constant_run == 1


def test_a_run_goes_on_within_and_between_batches() -> None:
    counted = counters()
    outputs = {"y": np.ones((32, 3), np.float32)}
    counted.answered({"x": SAMPLES}, outputs, 1.0)
    counted.answered({"x": SAMPLES + 1}, outputs, 1.0)
    assert counted.snapshot().longest_constant_run == 64


def test_a_request_that_drift_cannot_count_is_still_good() -> None:
    counted = counters()
    counted.answered({"z": SAMPLES}, {"y": SAMPLES @ WEIGHTS}, 1.0)
    assert counted.snapshot().good == 1


def test_counts_from_many_threads_add_up() -> None:
    counted = counters()

    def work() -> None:
        for _ in range(100):
            counted.answered({"x": SAMPLES[:1]}, {"y": SAMPLES[:1] @ WEIGHTS}, 0.1)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = counted.snapshot()
    assert found.good == sum(found.latency_counts) == 400
    assert found.drift is not None
    assert sum(found.drift.classes) == 400


def test_answers_that_nobody_settles_do_not_pile_up() -> None:
    counted = counters()
    for _ in range(100):
        answer(counted, [1, 2, 3, 4], [1, 0, 0])
    assert len(counted._unsettled) < MAX_UNSETTLED
    counted.settle()
    assert len(counted._unsettled) == 0
