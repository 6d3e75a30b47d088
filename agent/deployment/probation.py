"""What the live stream says about a candidate: one pure function, `judge`.

Rates need answers before they mean anything, so nothing but a total failure is judged before
`MIN_JUDGED` of them. Each verdict against the candidate says in words and figures what was seen.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Callable, Iterator, Sequence

import msgspec

from agent.deployment.state import Baseline
from agent.serving.protocol import ModelCounters, Probed
from contract.deployments import Cause, Evidence
from contract.messages import FeatureCounts, Figures, ProbationPolicy
from model.drift import class_shares, out_of_range_share
from model.errors import MalformedCounts
from model.latency import quantile

MIN_JUDGED = 50
"""Answers before a rate counts; fewer where the policy itself asks for fewer."""
MIN_FAILURES = 5
"""With nothing good beside them, so many failures are enough."""
CONSTANT_RUN = 50
"""So many equal outputs in a row, while the inputs differ, are a constant output."""
LATENCY_SLACK_MS = 50.0
"""A busy board delays any process by this much; a ratio alone would blame a 0.1 ms model."""


class Decision(enum.Enum):
    """What becomes of the candidate."""

    CONTINUE = "continue"
    COMMIT = "commit"
    ROLL_BACK = "roll-back"
    UNPROVEN = "unproven"
    PROBE = "probe"


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """A decision, and why."""

    decision: Decision
    cause: Cause | None = None
    detail: str = ""
    figures: Figures = {}


class Watched(msgspec.Struct, frozen=True, kw_only=True):
    """What is known about the candidate on probation."""

    counters: ModelCounters
    good: int
    """Good inferences over all lives of the server."""
    elapsed_ms: int
    baseline: Baseline = Baseline()
    trial_p95_ms: float = 0.0
    labels: Sequence[str] = ()
    probed: Probed | None = None


Finding = tuple[Cause, str]
Check = Callable[[ProbationPolicy, Watched], "Finding | None"]


def judge(policy: ProbationPolicy, watched: Watched) -> Verdict:
    """The verdict on what was seen so far. The first finding in the order of CHECKS decides."""
    figures = _figures(watched)
    finding = next(_findings(policy, watched), None)
    if finding is not None:
        cause, detail = finding
        return Verdict(decision=Decision.ROLL_BACK, cause=cause, detail=detail, figures=figures)
    if watched.good >= max(1, policy.min_inferences):
        return Verdict(decision=Decision.COMMIT, figures=figures)
    if watched.elapsed_ms < policy.window_s * 1000:
        return Verdict(decision=Decision.CONTINUE, figures=figures)
    return _window_over(policy, watched, figures)


def _window_over(policy: ProbationPolicy, watched: Watched, figures: Figures) -> Verdict:
    if policy.evidence is Evidence.PROBE:
        if watched.probed is None:
            return Verdict(decision=Decision.PROBE, figures=figures)
        return Verdict(decision=Decision.COMMIT, figures=figures)
    detail = (
        f"{watched.good} good inferences in {policy.window_s} s; {policy.min_inferences} are needed"
    )
    return Verdict(decision=Decision.UNPROVEN, detail=detail, figures=figures)


def _findings(policy: ProbationPolicy, watched: Watched) -> Iterator[Finding]:
    for check in CHECKS:
        finding = check(policy, watched)
        if finding is not None:
            yield finding


def _enough(policy: ProbationPolicy, answers: int) -> bool:
    return answers >= max(1, min(MIN_JUDGED, policy.min_inferences or MIN_JUDGED))


def _rate_too_high(policy: ProbationPolicy, seen: ModelCounters, bad: int) -> bool:
    if seen.good == 0 and bad >= MIN_FAILURES:
        return True
    return _enough(policy, seen.inferences) and bad / seen.inferences > policy.max_error_rate


def _errors(policy: ProbationPolicy, watched: Watched) -> Finding | None:
    seen = watched.counters
    if not _rate_too_high(policy, seen, seen.errors):
        return None
    share = _percent(seen.errors / seen.inferences)
    return Cause.INFERENCE_ERRORS, (
        f"{seen.errors} of {seen.inferences} inferences failed ({share}, at most"
        f" {_percent(policy.max_error_rate)}); the last: {seen.last_error[:200]}"
    )


def _invalid(policy: ProbationPolicy, watched: Watched) -> Finding | None:
    seen = watched.counters
    if not _rate_too_high(policy, seen, seen.invalid):
        return None
    share = _percent(seen.invalid / seen.inferences)
    return Cause.INVALID_OUTPUT, (
        f"{seen.invalid} of {seen.inferences} answers hold NaN or Inf ({share}, at most"
        f" {_percent(policy.max_error_rate)})"
    )


def _constant(policy: ProbationPolicy, watched: Watched) -> Finding | None:
    run = watched.counters.longest_constant_run
    if run < CONSTANT_RUN:
        return None
    return Cause.CONSTANT_OUTPUT, f"{run} answers in a row were equal while the inputs differed"


def _collapse(policy: ProbationPolicy, watched: Watched) -> Finding | None:
    """One class for nearly everything, unless that is how it was before, too."""
    shares, answers = _shares(watched.counters)
    if not _enough(policy, answers):
        return None
    top = max(range(len(shares)), key=shares.__getitem__)
    before = _share_before(watched.baseline, top)
    if shares[top] <= policy.max_class_share or before > policy.max_class_share:
        return None
    return Cause.CLASS_COLLAPSE, (
        f"class {_label(watched, top)} gets {_percent(shares[top])} of {answers} answers (at most"
        f" {_percent(policy.max_class_share)}{_compared(watched.baseline, before)})"
    )


def _shift(policy: ProbationPolicy, watched: Watched) -> Finding | None:
    shares, answers = _shares(watched.counters)
    before = watched.baseline.class_shares
    if not _enough(policy, answers) or len(before) != len(shares):
        return None
    distance = sum(abs(a - b) for a, b in zip(shares, before, strict=True)) / 2
    chance = _distance_by_chance(before, answers, watched.baseline.answers)
    if distance <= policy.max_class_distance + chance:
        return None
    moved = max(range(len(shares)), key=lambda i: abs(shares[i] - before[i]))
    return Cause.CLASS_SHIFT, (
        f"the mix of classes is {distance:.2f} away from the {watched.baseline.source}'s over"
        f" {answers} answers (at most {policy.max_class_distance:.2f}); class"
        f" {_label(watched, moved)} gets {_percent(shares[moved])} and had"
        f" {_percent(before[moved])}"
    )


def _out_of_range(policy: ProbationPolicy, watched: Watched) -> Finding | None:
    drift = watched.counters.drift
    if drift is None or not drift.features:
        return None
    rows = max(f.n + f.missing for f in drift.features.values())
    share, most = out_of_range_share(drift), policy.max_out_of_range
    if not _enough(policy, rows) or share <= most + _share_by_chance(most, rows):
        return None
    worst = max(drift.features, key=lambda name: _outside(drift.features[name]))
    return Cause.INPUT_OUT_OF_RANGE, (
        f"{_percent(share)} of {rows} live values of {worst} lie outside what the model was"
        f" calibrated on (at most {_percent(policy.max_out_of_range)})"
    )


def _latency(policy: ProbationPolicy, watched: Watched) -> Finding | None:
    seen = watched.counters
    if watched.trial_p95_ms <= 0 or not _enough(policy, sum(seen.latency_counts)):
        return None
    p95 = _p95(seen)
    allowed = watched.trial_p95_ms * policy.max_latency_ratio
    if p95 <= max(allowed, watched.trial_p95_ms + LATENCY_SLACK_MS):
        return None
    return Cause.LATENCY, (
        f"p95 is {p95:.2f} ms, {p95 / watched.trial_p95_ms:.1f} times the trial's"
        f" {watched.trial_p95_ms:.2f} ms (at most {policy.max_latency_ratio:.1f} times)"
    )


def _probe(policy: ProbationPolicy, watched: Watched) -> Finding | None:
    probed = watched.probed
    if probed is None or probed.passed:
        return None
    return Cause.TRIAL_FAILED, (
        f"the serving model failed its golden samples: {probed.reason or 'no reason given'}"
        f" ({probed.samples} samples, agreement {_percent(probed.agreement)})"
    )


CHECKS: tuple[Check, ...] = (
    _errors,
    _invalid,
    _constant,
    _collapse,
    _out_of_range,
    _shift,
    _latency,
    _probe,
)
"""The plainest cause first: a model that sees inputs out of range also shifts its classes."""


def _distance_by_chance(shares: Sequence[float], answers: int, before: int) -> float:
    """The total variation that equal mixes show all the same, for want of answers.

    The mean absolute deviation of a binomial share, by the normal approximation, over two; few
    answers over many classes thus prove nothing.
    """
    per_answer = 1 / answers + (1 / before if before else 0.0)
    return sum(math.sqrt(2 * p * (1 - p) * per_answer / math.pi) for p in shares) / 2


def _share_by_chance(share: float, rows: int) -> float:
    """What a few rows show above the share that is allowed: two standard errors of a binomial.

    Of five good inputs, two are out of range now and then.
    """
    return 2 * math.sqrt(share * (1 - share) / rows)


def _outside(feature: FeatureCounts) -> float:
    rows = feature.n + feature.missing
    return (feature.below + feature.above) / rows if rows else 0.0


def _shares(counters: ModelCounters) -> tuple[list[float], int]:
    if counters.drift is None or not sum(counters.drift.classes):
        return [], 0
    return class_shares(counters.drift), sum(counters.drift.classes)


def _share_before(baseline: Baseline, index: int) -> float:
    shares = baseline.class_shares
    return shares[index] if index < len(shares) else 0.0


def _compared(baseline: Baseline, before: float) -> str:
    return f"; the {baseline.source} gave it {_percent(before)}" if baseline.class_shares else ""


def _label(watched: Watched, index: int) -> str:
    named = index < len(watched.labels) and watched.labels[index] != str(index)
    return f"{index} ({watched.labels[index][:40]})" if named else str(index)


def _percent(share: float) -> str:
    return f"{100 * share:.3g} %"


def _p95(seen: ModelCounters) -> float:
    try:
        return quantile(seen.latency_counts, 0.95)
    except MalformedCounts:
        return 0.0


def _figures(watched: Watched) -> Figures:
    seen = watched.counters
    shares, answers = _shares(seen)
    figures = {
        "probation_ms": float(watched.elapsed_ms),
        "good_inferences": float(watched.good),
        "inferences": float(seen.inferences),
        "errors": float(seen.errors),
        "invalid": float(seen.invalid),
        "live_p95_ms": _p95(seen),
    }
    if answers:
        figures["top_class_share"] = max(shares)
    if seen.drift is not None:
        figures["out_of_range_share"] = out_of_range_share(seen.drift)
    if watched.probed is not None:
        figures["probes"] = float(watched.probed.samples)
        figures["probe_agreement"] = watched.probed.agreement
    return figures
