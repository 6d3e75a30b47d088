"""What a device's reports say of its releases, as counts that add. Pure.

Three sums per device of a rollout: under the candidate, under what it served before, and, while it
is held back, under what it serves meanwhile.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec
from msgspec import field
from msgspec.structs import replace

from contract.messages import DriftWindow, InferenceWindow, Report
from model.errors import MalformedCounts
from model.latency import merged

MAX_RANGES = 256
"""As many features as one report may have."""


class Figures(msgspec.Struct, frozen=True, kw_only=True):
    """Sums over windows of one digest (or, over devices, of several)."""

    digest: str = ""
    inferences: int = 0
    errors: int = 0
    invalid: int = 0
    latency_counts: list[int] = []
    classes: list[int] = []
    ranges: dict[str, tuple[int, int]] = {}
    """Feature -> (values, of which outside the calibrated range)."""


class Traffic(msgspec.Struct, frozen=True, kw_only=True):
    """What one device did."""

    candidate: Figures = field(default_factory=Figures)
    previous: Figures = field(default_factory=Figures)
    control: Figures = field(default_factory=Figures)


class Window(msgspec.Struct, frozen=True):
    """One report, as far as a rollout's family goes, and when the hub received it."""

    figures: Figures
    received_at_ms: int


def window_of(report: Report, family: str, received_at_ms: int) -> Window | None:
    """None when the report says nothing of the family."""
    inference = report.inference.get(family)
    if inference is None:
        return None
    drift = report.drift.get(family)
    same = drift if drift is not None and drift.digest == inference.digest else None
    return Window(_figures(inference, same), received_at_ms)


def count(
    traffic: Traffic, window: Window, candidate: str, started_ms: int, assigned_ms: int | None
) -> Traffic:
    """Add a window to where it belongs.

    A window ends when it was received; the one in which the switch fell names the new digest.
    """
    figures, at_ms = window.figures, window.received_at_ms
    if figures.digest == candidate:
        if assigned_ms is None or at_ms < assigned_ms:
            return traffic
        return replace(traffic, candidate=add(traffic.candidate, figures))
    if assigned_ms is not None and at_ms >= assigned_ms:
        return traffic
    previous = traffic.previous
    kept = previous if previous.digest in ("", figures.digest) else Figures()
    counted = replace(traffic, previous=add(kept, figures))
    if at_ms >= started_ms:
        return replace(counted, control=add(traffic.control, figures))
    return counted


def add(first: Figures, second: Figures) -> Figures:
    """The sum. Counts of another shape than the first's (another model) are left out."""
    ranges = dict(first.ranges)
    for name, (n, outside) in second.ranges.items():
        if name not in ranges and len(ranges) >= MAX_RANGES:
            continue  # a device that invents names must not make the stored sums grow
        before = ranges.get(name, (0, 0))
        ranges[name] = (before[0] + n, before[1] + outside)
    return Figures(
        digest=second.digest or first.digest,
        inferences=first.inferences + second.inferences,
        errors=first.errors + second.errors,
        invalid=first.invalid + second.invalid,
        latency_counts=_latencies(first.latency_counts, second.latency_counts),
        classes=_classes(first.classes, second.classes),
        ranges=ranges,
    )


def total(parts: Iterable[Figures]) -> Figures:
    """The sum over devices."""
    whole = Figures()
    for part in parts:
        whole = add(whole, part)
    return whole


def _figures(inference: InferenceWindow, drift: DriftWindow | None) -> Figures:
    return Figures(
        digest=inference.digest,
        inferences=inference.inferences,
        errors=inference.errors,
        invalid=inference.invalid,
        latency_counts=list(inference.latency_counts),
        classes=list(drift.classes) if drift else [],
        ranges={
            name: (counts.n, min(counts.n, counts.below + counts.above))
            for name, counts in (drift.features.items() if drift else ())
        },
    )


def _latencies(first: list[int], second: list[int]) -> list[int]:
    try:
        return merged(first, second)
    except MalformedCounts:  # a device's own idea of the bins
        return first


def _classes(first: list[int], second: list[int]) -> list[int]:
    if not first or not second:
        return first or second
    if len(first) != len(second):
        return first
    return [a + b for a, b in zip(first, second, strict=True)]
