"""The canaries' live traffic against a reference: errors, invalid answers, latency, classes, range.

Pure. The reference is what the held-back devices do meanwhile; with fewer than ten of them, what
the canaries themselves did under their previous release; without that, absolute limits alone. The
comparison says in words which it was, and a check without enough data passes and says so too.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from contract.messages import ProbationPolicy
from fleet.rollouts.traffic import Figures, total
from fleet.rollouts.views import UNTOUCHED, DeviceView
from fleet.rollouts.words import counted
from model.latency import quantile

MIN_CONTROL = 10
"""Devices: with fewer, differences between devices outweigh those between releases."""
MIN_SAMPLE = 50
"""Inferences on a side, below which a rate says nothing."""
MIN_EVENTS = 3
"""So many errors at least before a rate counts: one bad request is no bad release."""
MIN_SLOWER_MS = 1.0
"""Less than this is the scheduler's doing, whatever the ratio."""
CONTROL, OWN, LIMITS = "control", "own-previous", "limits"


class Check(msgspec.Struct, frozen=True, kw_only=True):
    """One figure of the candidate against its limit."""

    name: str
    candidate: float | None
    reference: float | None
    limit: float
    passed: bool
    words: str


class Comparison(msgspec.Struct, frozen=True, kw_only=True):
    """Every check, and against what."""

    against: str
    words: str
    inferences: int
    checks: list[Check]

    def failing(self, accepted: Sequence[str] = ()) -> list[Check]:
        """The checks that fail and that no operator has accepted."""
        return [c for c in self.checks if not c.passed and c.name not in accepted]


def compare(devices: Sequence[DeviceView], policy: ProbationPolicy) -> Comparison:
    """All canaries together against the best reference that there is."""
    reached = [d for d in devices if d.progress.status not in UNTOUCHED]
    candidate = total(d.traffic.candidate for d in reached)
    against, words, reference = _reference(devices, reached)
    checks = [
        _rate("error-rate", candidate, reference, candidate.errors, reference.errors, policy),
        _rate("invalid-rate", candidate, reference, candidate.invalid, reference.invalid, policy),
        _latency(candidate, reference, policy),
        _class_mix(candidate, reference, policy),
        _class_share(candidate, reference, policy),
        _out_of_range(candidate, reference, policy),
    ]
    return Comparison(against=against, words=words, inferences=candidate.inferences, checks=checks)


def distance(first: Sequence[int], second: Sequence[int]) -> float:
    """Total variation between two class counts of equal length, 0..1."""
    n, m = sum(first), sum(second)
    return sum(abs(a / n - b / m) for a, b in zip(first, second, strict=True)) / 2


def _reference(
    devices: Sequence[DeviceView], reached: Sequence[DeviceView]
) -> tuple[str, str, Figures]:
    held = [d.traffic.control for d in devices if d.progress.status in UNTOUCHED]
    control = [figures for figures in held if figures.inferences]
    if len(control) >= MIN_CONTROL:
        words = f"compared with {len(control)} held-back control devices over the same time"
        return CONTROL, words, total(control)
    few = f"{counted(len(control), 'control device')} with traffic, {MIN_CONTROL} needed"
    own = [d.traffic.previous for d in reached if d.traffic.candidate.inferences]
    known = [figures for figures in own if figures.inferences]
    if known:
        words = f"compared with the previous release on {len(known)} of the same devices ({few})"
        return OWN, words, total(known)
    words = f"held against absolute limits only ({few}, and no earlier reports are there)"
    return LIMITS, words, Figures()


def _rate(
    name: str,
    candidate: Figures,
    reference: Figures,
    count: int,
    reference_count: int,
    policy: ProbationPolicy,
) -> Check:
    if candidate.inferences < MIN_SAMPLE:
        return _unknown(name, policy.max_error_rate, candidate.inferences)
    rate = count / candidate.inferences
    usual = reference_count / reference.inferences if reference.inferences else None
    limit = min(1.0, (usual or 0.0) + policy.max_error_rate)
    return Check(
        name=name,
        candidate=rate,
        reference=usual,
        limit=limit,
        passed=rate <= limit or count < MIN_EVENTS,
        words=f"{name} {rate:.2%}, {_than(usual, '.2%')}at most {limit:.2%}",
    )


def _latency(candidate: Figures, reference: Figures, policy: ProbationPolicy) -> Check:
    name, limit = "latency-p95-ratio", policy.max_latency_ratio
    n, m = sum(candidate.latency_counts), sum(reference.latency_counts)
    if min(n, m) < MIN_SAMPLE:
        return _unknown(name, limit, min(n, m))
    now, before = quantile(candidate.latency_counts, 0.95), quantile(reference.latency_counts, 0.95)
    ratio = now / max(before, 1e-6)
    return Check(
        name=name,
        candidate=ratio,
        reference=before,
        limit=limit,
        passed=ratio <= limit or now - before < MIN_SLOWER_MS,
        words=f"latency p95 {now:.2f} ms against {before:.2f} ms: {ratio:.2f} times,"
        f" at most {limit:g} times",
    )


def _class_mix(candidate: Figures, reference: Figures, policy: ProbationPolicy) -> Check:
    name, limit = "class-mix", policy.max_class_distance
    n, m = sum(candidate.classes), sum(reference.classes)
    if min(n, m) < MIN_SAMPLE or len(candidate.classes) != len(reference.classes):
        return _unknown(name, limit, min(n, m))
    found = distance(candidate.classes, reference.classes)
    return Check(
        name=name,
        candidate=found,
        reference=0.0,
        limit=limit,
        passed=found <= limit,
        words=f"the mix of classes differs by {found:.2f} (total variation), at most {limit:g}",
    )


def _class_share(candidate: Figures, reference: Figures, policy: ProbationPolicy) -> Check:
    """A collapse onto one class, unless it was so before."""
    name, n = "class-share", sum(candidate.classes)
    if n < MIN_SAMPLE:
        return _unknown(name, policy.max_class_share, n)
    top = max(range(len(candidate.classes)), key=candidate.classes.__getitem__)
    share, m = candidate.classes[top] / n, sum(reference.classes)
    comparable = m >= MIN_SAMPLE and len(reference.classes) == len(candidate.classes)
    usual = reference.classes[top] / m if comparable else None
    limit = max(policy.max_class_share, usual or 0.0)
    return Check(
        name=name,
        candidate=share,
        reference=usual,
        limit=limit,
        passed=share <= limit,
        words=f"class {top} is {share:.1%} of the answers,"
        f" {_than(usual, '.1%')}at most {limit:.1%}",
    )


def _out_of_range(candidate: Figures, reference: Figures, policy: ProbationPolicy) -> Check:
    name = "input-out-of-range"
    worst, share, n = _worst(candidate)
    if n < MIN_SAMPLE:
        return _unknown(name, policy.max_out_of_range, n)
    _, usual, m = _worst(reference)
    known = usual if m >= MIN_SAMPLE else None
    limit = min(1.0, (known or 0.0) + policy.max_out_of_range)
    return Check(
        name=name,
        candidate=share,
        reference=known,
        limit=limit,
        passed=share <= limit,
        words=f"{share:.1%} of {worst} lies outside the calibrated range,"
        f" {_than(known, '.1%')}at most {limit:.1%}",
    )


def _worst(figures: Figures) -> tuple[str, float, int]:
    """The feature with the largest share out of range, of those with enough values."""
    shares = [
        (outside / n, name, n) for name, (n, outside) in figures.ranges.items() if n >= MIN_SAMPLE
    ]
    share, name, n = max(shares, default=(0.0, "", 0))
    return name, share, n


def _than(usual: float | None, form: str) -> str:
    return "" if usual is None else f"{usual:{form}} before, "


def _unknown(name: str, limit: float, n: int) -> Check:
    return Check(
        name=name,
        candidate=None,
        reference=None,
        limit=limit,
        passed=True,
        words=f"{name}: not judged, {n} of {MIN_SAMPLE} samples",
    )
