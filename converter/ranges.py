"""Do calibration and evaluation data belong together? Pure decisions over the two sets.

Owns: shared samples (refused), sets too small to tell anything, the outlier that would stretch an
int8 range, and the disagreement of ranges that tells of a wrong scale. All but the first are
objections: the owner may overrule them.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

import numpy as np

from converter.data.rows import Array, Rows, blocks
from converter.errors import CalibrationMismatch, CalibrationOutlier, SamplesOverlap, TooFewSamples
from converter.samples import BATCH, Extremes, Samples

MIN_SAMPLES = 8
"""Of either set; below it candidates cannot be judged on samples that they were not fitted on."""
OUTLIER_RATIO = 100.0
"""A sample this many times larger than the median one leaves the others 2 of 8 bits."""
SUSPECT_RATIO = 8.0
"""Takes 3 of 8 bits: worth a word when int8 loses too much."""
MARGIN = 0.1
"""How far outside of the calibrated range, in parts of it, a value still counts as inside."""
MAX_OUTSIDE = 0.01
_BULK_VALUES = 1 << 18
"""That the central width is read from, evenly spread: memory does not grow with the samples."""
MAX_SPAN_RATIO = 4.0
"""Calibrated on values this many times wider than evaluation's: at least 2 of 8 bits are lost."""


@dataclass(frozen=True)
class Range:
    """The lowest and highest value of one input."""

    low: float
    high: float


def input_ranges(samples: Samples) -> dict[str, Range]:
    """Per float input: the range that int8 calibration sees."""
    return {name: _whole(samples.extremes(name)) for name in _floats(samples)}


def share_outside(samples: Samples, name: str, low: float, high: float) -> float:
    """Which part, 0..1, of all values of the input `name` lies below `low` or above `high`.

    Only samples whose own extremes do are looked at again.
    """
    array: Array | Rows = samples.arrays[name]
    ends = samples.extremes(name)
    suspects = np.flatnonzero((ends.low < low) | (ends.high > high))
    total, outside = len(array) * math.prod(array.shape[1:]), 0
    for start in range(0, len(suspects), BATCH):
        values = array[suspects[start : start + BATCH]]
        outside += int(((values < low) | (values > high)).sum())
    return outside / total


def refuse_overlap(calibration: Samples, evaluation: Samples) -> None:
    """Raise `SamplesOverlap` that names the first sample of both sets."""
    known = {key: place for place, key in enumerate(_keys(calibration))}
    shared = [(i, known[key]) for i, key in enumerate(_keys(evaluation)) if key in known]
    if shared:
        ours, theirs = shared[0]
        more = f" ({len(shared)} samples are in both)" if len(shared) > 1 else ""
        raise SamplesOverlap(
            f"{evaluation.origin}: {evaluation.said(ours)} is {calibration.said(theirs)} of"
            f" {calibration.origin}{more}; evaluate on samples that calibration has not seen"
        )


def find_few(calibration: Samples, evaluation: Samples) -> TooFewSamples | None:
    """The set that is too small, or None."""
    for samples, use in ((calibration, "calibrate"), (evaluation, "evaluate")):
        if len(samples) < MIN_SAMPLES:
            return TooFewSamples(
                f"{samples.origin}: {len(samples)} samples to {use} on; give at least {MIN_SAMPLES}"
                f", and {4 * MIN_SAMPLES} where a quarter is held out for the evaluation"
            )
        different = sum(1 for _ in islice(_different(samples), MIN_SAMPLES))
        if different < MIN_SAMPLES:
            return TooFewSamples(
                f"{samples.origin}: {len(samples)} samples to {use} on, {different} of which differ"
                f"; give at least {MIN_SAMPLES} different ones"
            )
    return None


def find_outlier(calibration: Samples) -> CalibrationOutlier | None:
    """The sample that dwarfs the typical one of its input, or None."""
    found = _largest(calibration, OUTLIER_RATIO)
    if found is None:
        return None
    return CalibrationOutlier(
        f"{calibration.origin}: {found}; remove it, or the int8 range is lost to it"
    )


def suspected(calibration: Samples) -> str:
    """The file's name, and the sample that took much of its range, where there is one.

    For whoever has to find out why int8 lost too much; by itself no reason to refuse.
    """
    found = _largest(calibration, SUSPECT_RATIO)
    return calibration.origin if found is None else f"{calibration.origin} ({found})"


def _largest(calibration: Samples, ratio: float) -> str | None:
    for name in _floats(calibration):
        ends = calibration.extremes(name)
        sizes = np.maximum(ends.high, -ends.low).astype(np.float64)
        typical = float(np.median(sizes[sizes > 0])) if (sizes > 0).any() else 0.0
        worst = int(sizes.argmax())
        if sizes[worst] > ratio * typical > 0:
            return (
                f"{calibration.said(worst)} of {name!r} reaches {sizes[worst]:.4g}, the typical"
                f" sample {typical:.4g}"
            )
    return None


def find_mismatch(calibration: Samples, evaluation: Samples) -> CalibrationMismatch | None:
    """The input whose evaluation values do not fit the calibrated range, or None."""
    for name in _floats(calibration):
        reason = _why_unlike(name, calibration, evaluation)
        if reason is not None:
            return CalibrationMismatch(
                f"{calibration.origin}: {name!r} is {reason} of {evaluation.origin}; calibrate on"
                " samples that are scaled like the real input"
            )
    return None


def _why_unlike(name: str, calibration: Samples, evaluation: Samples) -> str | None:
    seen = _whole(calibration.extremes(name))
    low, high = seen.low, seen.high
    slack = MARGIN * (high - low)
    outside = share_outside(evaluation, name, low - slack, high + slack)
    if outside > MAX_OUTSIDE:
        return f"in [{low:.4g}, {high:.4g}], which leaves out {100 * outside:.1f} % of the values"
    ours, theirs = _bulk(calibration.arrays[name]), _bulk(evaluation.arrays[name])
    if ours > MAX_SPAN_RATIO * theirs > 0:
        return f"in [{low:.4g}, {high:.4g}], {ours / theirs:.1f} times as wide as the values"
    return None


def _whole(ends: Extremes) -> Range:
    return Range(float(ends.low.min()), float(ends.high.max()))


def _bulk(array: Array | Rows) -> float:
    """Width of the central 98 %: a few legitimate extremes are no wrong scale."""
    each = math.prod(array.shape[1:])
    step = -(-len(array) * each // _BULK_VALUES) | 1  # odd: channels often come in even numbers
    seen = [
        block.reshape(-1)[-start * each % step :: step].copy()  # and does not keep the block
        for start, block in blocks(array)
    ]
    values = np.concatenate(seen).astype(np.float64)
    low, high = np.percentile(values, [1, 99], overwrite_input=True)
    return float(high - low)


def _floats(samples: Samples) -> list[str]:
    """Names of the inputs that have ranges."""
    return [name for name, array in samples.arrays.items() if array.dtype.kind == "f"]


def _different(samples: Samples) -> Iterator[bytes]:
    """The digest of each sample that was not there before; reads on only when asked for more."""
    seen: set[bytes] = set()
    for key in _keys(samples):
        if key not in seen:
            seen.add(key)
            yield key


def _keys(samples: Samples) -> Iterator[bytes]:
    """One digest a sample, over all its inputs; -0.0 and 0.0 are one value."""
    for batch in samples.batches():
        plain = [a + 0.0 if a.dtype.kind == "f" else a for a in batch.values()]
        for parts in zip(*plain, strict=True):
            key = hashlib.sha256()
            for part in parts:
                key.update(np.ascontiguousarray(part).tobytes())
            yield key.digest()
