"""Adding and comparing windows of drift counts; only windows of one profile may meet. Pure."""

from __future__ import annotations

from contract.messages import DriftWindow, FeatureCounts
from model.errors import MalformedCounts


def difference(later: DriftWindow, earlier: DriftWindow) -> DriftWindow:
    """What was counted between two cumulative windows of one counter.

    `longest_run` cannot be taken apart and stays the later one. Raises `MalformedCounts` when the
    two do not belong together, or a count fell.
    """
    return _combined(later, earlier, -1)


def add(first: DriftWindow, second: DriftWindow) -> DriftWindow:
    """The sum of two windows, of one device or two; raises `MalformedCounts` as `difference`."""
    return _combined(first, second, 1)


def class_shares(window: DriftWindow) -> list[float]:
    """The share of each class among the answers; empty when none was counted."""
    total = sum(window.classes)
    return [count / total for count in window.classes] if total else []


def out_of_range_share(window: DriftWindow) -> float:
    """The largest share, over the features, of values outside the reference's range.

    Missing values are not outside, but are part of the whole. 0.0 when nothing was counted.
    """
    shares = [
        (f.below + f.above) / (f.n + f.missing) for f in window.features.values() if f.n + f.missing
    ]
    return max(shares, default=0.0)


def _combined(first: DriftWindow, second: DriftWindow, sign: int) -> DriftWindow:
    if (first.digest, first.profile) != (second.digest, second.profile):
        raise MalformedCounts("the windows were counted for different models or profiles")
    if first.features.keys() != second.features.keys():
        raise MalformedCounts("the windows do not hold the same features")
    return DriftWindow(
        digest=first.digest,
        profile=first.profile,
        features={
            name: _combined_feature(counts, second.features[name], sign)
            for name, counts in first.features.items()
        },
        classes=_combined_counts(first.classes, second.classes, sign),
        confidence=_combined_optional(first.confidence, second.confidence, sign),
        entropy=_combined_optional(first.entropy, second.entropy, sign),
    )


def _combined_optional(
    first: FeatureCounts | None, second: FeatureCounts | None, sign: int
) -> FeatureCounts | None:
    if first is None or second is None:
        if first is not second:
            raise MalformedCounts("only one of the windows counts answers")
        return None
    return _combined_feature(first, second, sign)


def _combined_feature(first: FeatureCounts, second: FeatureCounts, sign: int) -> FeatureCounts:
    scalars = _combined_counts(
        [first.n, first.missing, first.below, first.above],
        [second.n, second.missing, second.below, second.above],
        sign,
    )
    n, missing, below, above = scalars
    return FeatureCounts(
        bins=_combined_counts(first.bins, second.bins, sign),
        n=n,
        missing=missing,
        below=below,
        above=above,
        longest_run=max(first.longest_run, second.longest_run) if sign > 0 else first.longest_run,
    )


def _combined_counts(first: list[int], second: list[int], sign: int) -> list[int]:
    if len(first) != len(second):
        raise MalformedCounts("the windows do not have the same bins")
    found = [a + sign * b for a, b in zip(first, second, strict=True)]
    if any(count < 0 for count in found):
        raise MalformedCounts("a count fell: the windows are not of one counter's life")
    return found
