"""The gate decides on figures alone, and what is overruled is written down."""

from __future__ import annotations

from dataclasses import replace

import pytest

from converter.errors import CalibrationMismatch, CalibrationOutlier
from converter.evaluate import Comparison
from converter.gate import (
    MAX_REASON,
    decide,
    overrule,
    why_failed,
    why_one_answer,
    why_slow,
    why_useless,
)
from converter.latency import Latency


def measured(
    accuracy: float | None = None,
    baseline: float | None = None,
    agreement: float = 100.0,
    majority: float | None = None,
) -> Comparison:
    return Comparison(100, agreement, 30.0, accuracy, baseline, majority)


@pytest.mark.parametrize(
    ("accuracy", "max_drop", "passed"),
    [
        (91.0, 1.0, True),
        (90.0, 1.0, True),
        (89.9, 1.0, False),
        (92.0, 0.0, True),
        (91.0, 0.0, True),
        (90.9, 0.0, False),
        (10.0, 100.0, True),
    ],
)
def test_labels_make_accuracy_the_measure(accuracy: float, max_drop: float, passed: bool) -> None:
    record = decide(measured(accuracy, 91.0, agreement=50.0), max_drop)
    assert (record.metric, record.baseline, record.measured) == ("accuracy", 91.0, accuracy)
    assert record.passed is passed
    assert not record.forced


def test_a_drop_of_exactly_the_allowed_size_passes_whatever_the_rounding() -> None:
    assert decide(measured(99.567, 99.667), 0.1).passed


@pytest.mark.parametrize(("agreement", "passed"), [(100.0, True), (99.0, True), (98.9, False)])
def test_without_labels_agreement_is_the_measure(agreement: float, passed: bool) -> None:
    record = decide(measured(agreement=agreement), 1.0)
    assert (record.metric, record.baseline) == ("agreement", 100.0)
    assert record.passed is passed


def test_a_pass_gives_no_objection() -> None:
    assert why_failed(decide(measured(91.0, 91.0), 1.0), "calib.npz") is None


def test_a_failure_carries_the_figures() -> None:
    record = decide(measured(80.0, 91.5), 1.0)
    found = why_failed(record, "calib.npz")
    assert found is not None
    assert found.record == record
    assert "accuracy fell from 91.50 % to 80.00 %, by 11.50 points where 1 are allowed" in str(
        found
    )


def test_a_float_model_no_better_than_a_constant_is_useless() -> None:
    found = why_useless(measured(10.0, 9.5, majority=12.0))
    assert found is not None
    assert "9.50 %" in str(found)
    assert "12.00 %" in str(found)


@pytest.mark.parametrize(
    "comparison",
    [
        measured(90.0, 91.0, majority=12.0),
        measured(),
        measured(100.0, 100.0, majority=100.0),
        measured(96.0, 96.0, majority=97.0),
    ],
)
def test_other_baselines_are_taken_as_they_are(comparison: Comparison) -> None:
    assert why_useless(comparison) is None


@pytest.mark.parametrize(
    ("answered", "accuracy", "refused"),
    [(1, None, True), (2, None, False), (None, None, False), (1, 96.0, False)],
)
def test_agreement_on_a_single_class_says_nothing(
    answered: int | None, accuracy: float | None, refused: bool
) -> None:
    found = why_one_answer(replace(measured(accuracy, accuracy), answered=answered), "eval.npz")
    assert (found is not None) is refused


def test_accuracy_on_labels_of_one_class_says_nothing() -> None:
    found = why_one_answer(measured(100.0, 100.0, majority=100.0), "eval.npz")
    assert "eval.npz: all 100 labels" in str(found)
    assert why_one_answer(measured(100.0, 100.0, majority=99.0), "eval.npz") is None


@pytest.mark.parametrize("labelled", [True, False])
def test_an_output_beside_the_classes_can_fail_the_gate_and_is_named(labelled: bool) -> None:
    accuracy = 91.0 if labelled else None
    found = replace(measured(accuracy, accuracy), values={"boxes": 40.0, "masks": 100.0})
    record = decide(found, 1.0)
    assert (record.metric, record.measured, record.passed) == ("agreement", 40.0, False)
    assert "values of output 'boxes' fell from 100.00 % to 40.00 %" in str(
        why_failed(record, "calib.npz", found)
    )


def test_outputs_beside_the_classes_that_keep_their_values_change_nothing() -> None:
    found = replace(measured(91.0, 91.5), values={"boxes": 99.5})
    assert decide(found, 1.0) == decide(measured(91.0, 91.5), 1.0)


def test_a_failure_names_the_samples_that_calibrated() -> None:
    assert "those of noise.npz" in str(why_failed(decide(measured(80.0, 91.5), 1.0), "noise.npz"))


@pytest.mark.parametrize(
    ("int8_ms", "ratio", "slow"), [(0.8, 1.0, False), (1.0, 1.0, False), (1.2, 1.0, True)]
)
def test_an_int8_model_that_takes_too_long_is_an_objection(
    int8_ms: float, ratio: float, slow: bool
) -> None:
    found = why_slow(Latency(int8_ms, 1.0, rounds=9), ratio)
    assert (found is not None) is slow
    if slow:
        assert "1.20 times as long as float32 where 1 is allowed" in str(found)
        assert "raise --max-latency-ratio" in str(found)


def test_without_a_limit_no_model_is_too_slow() -> None:
    assert why_slow(Latency(9.0, 1.0, rounds=9), None) is None


def test_without_objections_nothing_is_recorded_as_forced() -> None:
    record = decide(measured(91.0, 91.0), 1.0)
    assert overrule(record, []) == record


def test_overruled_objections_are_recorded_by_name_and_in_order() -> None:
    record = decide(measured(80.0, 91.0), 1.0)
    forced = overrule(record, [CalibrationOutlier("sample 3"), CalibrationMismatch("'image'")])
    assert forced.forced
    assert forced.passed is record.passed
    assert forced.reason == "CalibrationOutlier: sample 3; CalibrationMismatch: 'image'"


def test_a_long_reason_is_cut_to_what_a_manifest_holds() -> None:
    forced = overrule(decide(measured(80.0, 91.0), 1.0), [CalibrationOutlier("x" * 900)])
    assert len(forced.reason) == MAX_REASON
    assert forced.reason.endswith("…")
