"""The accuracy gate: pure decisions over measured figures. Nothing here runs a model.

Owns: what counts (accuracy where there are labels, else agreement with the float model; and the
values of the outputs that neither tells of), whether the loss is allowed, and how an overruled
objection is recorded in the manifest.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from contract.manifest import GateRecord
from converter.errors import GateFailed, Objection, OneAnswer, TooSlow, UselessBaseline
from converter.evaluate import Comparison
from converter.latency import Latency

DEFAULT_MAX_DROP = 1.0
MAX_REASON = 400
_HALF, _ALL = 50.0, 100.0
_ROUNDING = 1e-6
"""So that a drop of exactly the allowed size passes, whatever binary fractions make of it."""


def decide(comparison: Comparison, max_drop: float) -> GateRecord:
    """The gate's verdict. `max_drop` and all figures are percentage points."""
    if comparison.accuracy is not None and comparison.accuracy_float32 is not None:
        metric, baseline, measured = (
            "accuracy",
            comparison.accuracy_float32,
            comparison.accuracy,
        )
    else:
        metric, baseline, measured = "agreement", 100.0, comparison.agreement
    worst = min(comparison.values.values(), default=100.0)
    if 100.0 - worst > max(baseline - measured, max_drop + _ROUNDING):
        metric, baseline, measured = "agreement", 100.0, worst
    return GateRecord(
        metric=metric,
        baseline=baseline,
        measured=measured,
        max_drop=max_drop,
        passed=baseline - measured <= max_drop + _ROUNDING,
    )


def why_failed(
    record: GateRecord, calibration: str, comparison: Comparison | None = None
) -> GateFailed | None:
    """The objection of a gate that did not pass, or None. `calibration`: its samples' file.

    `comparison`: what `record` was decided on, to name the output that it is about.
    """
    if record.passed:
        return None
    drop = record.baseline - record.measured
    output = None if comparison is None else _spoiled(comparison, record)
    of = "" if output is None else f" of the values of output {output!r}"
    return GateFailed(
        f"{record.metric}{of} fell from {record.baseline:.2f} % to {record.measured:.2f} %, by"
        f" {drop:.2f} points where {record.max_drop:g} are allowed; calibrate on better samples"
        f" than those of {calibration}, or raise --max-drop",
        record,
    )


def _spoiled(comparison: Comparison, record: GateRecord) -> str | None:
    """The output whose values the record is about, or None where it is about the classes."""
    unlabelled = comparison.accuracy is None
    if record.metric == "accuracy" or (unlabelled and record.measured == comparison.agreement):
        return None
    return min(comparison.values, key=lambda name: comparison.values[name])


def why_useless(comparison: Comparison) -> UselessBaseline | None:
    """The objection to a float model that a constant answer would beat, or None.

    Then labels or scaling of the evaluation data are wrong, and the gate would compare noise. A
    model that is right on half of the samples is let pass: where nearly all samples are of one
    class, a good detector scores less than never detecting anything.
    """
    accuracy, majority = comparison.accuracy_float32, comparison.majority
    if accuracy is None or majority is None or accuracy > majority or accuracy >= _HALF:
        return None
    return UselessBaseline(
        f"the float model itself is right on {accuracy:.2f} % of the evaluation samples, where one"
        f" constant answer is on {majority:.2f} %; check the labels' order and the samples' scale"
    )


def why_one_answer(comparison: Comparison, evaluation: str) -> OneAnswer | None:
    """The objection to agreement or accuracy that any constant answer would have, or None.

    Noise does this: a network gives one class to all of it, and int8 the same one. So do samples
    that were sorted by class and cut, and every fourth of what turns through four classes.
    """
    if comparison.majority == _ALL:
        return OneAnswer(
            f"{evaluation}: all {comparison.samples} labels to evaluate by are one class, so that"
            " accuracy says nothing; evaluate on samples of several classes"
        )
    if comparison.accuracy is not None or comparison.answered != 1:
        return None
    return OneAnswer(
        f"{evaluation}: the float model answers all {comparison.samples} samples with one class, so"
        " that agreement says nothing; evaluate on real samples of several classes"
    )


def why_slow(latency: Latency, max_ratio: float | None) -> TooSlow | None:
    """The objection to an int8 model that takes too long beside the float one here, or None."""
    if max_ratio is None or latency.p50_ms <= max_ratio * latency.p50_ms_float32:
        return None
    ratio = latency.p50_ms / latency.p50_ms_float32
    return TooSlow(
        f"int8 takes {latency.p50_ms:.4g} ms a sample, {ratio:.2f} times as long as float32 where"
        f" {max_ratio:g} is allowed; raise --max-latency-ratio, or give a network that gains"
        " by int8"
    )


def overrule(record: GateRecord, objections: Sequence[Objection]) -> GateRecord:
    """The record of a forced release: which objections were overruled, in the order they came."""
    if not objections:
        return record
    reason = "; ".join(f"{type(o).__name__}: {o}" for o in objections)
    if len(reason) > MAX_REASON:
        reason = reason[: MAX_REASON - 1] + "…"
    return msgspec.structs.replace(record, forced=True, reason=reason)
