"""Do calibration and evaluation data belong together? Pure decisions over the two sets.

Owns: shared samples (refused), sets too small to tell anything, the outlier that would stretch an
int8 range, and the disagreement of ranges that tells of a wrong scale. All but the first are
objections: the owner may overrule them.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from converter.errors import CalibrationMismatch, CalibrationOutlier, SamplesOverlap, TooFewSamples
from converter.samples import Samples

MIN_SAMPLES = 8
"""Of either set; below it candidates cannot be judged on samples that they were not fitted on."""
OUTLIER_RATIO = 100.0
"""A sample this many times larger than the median one leaves the others 2 of 8 bits."""
MARGIN = 0.1
"""How far outside of the calibrated range, in parts of it, a value still counts as inside."""
MAX_OUTSIDE = 0.01
_BULK_VALUES = 1 << 20
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
    return {n: Range(float(a.min()), float(a.max())) for n, a in _floats(samples).items()}


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
    return None


def find_outlier(calibration: Samples) -> CalibrationOutlier | None:
    """The sample that dwarfs the typical one of its input, or None."""
    for name, array in _floats(calibration).items():
        rows = array.reshape(len(array), -1)
        # Not the largest of np.abs(rows): that is a second copy of all the samples.
        sizes = np.maximum(rows.max(axis=1), -rows.min(axis=1)).astype(np.float64)
        typical = float(np.median(sizes[sizes > 0])) if (sizes > 0).any() else 0.0
        worst = int(sizes.argmax())
        if sizes[worst] > OUTLIER_RATIO * typical > 0:
            return CalibrationOutlier(
                f"{calibration.origin}: {calibration.said(worst)} of {name!r} reaches"
                f" {sizes[worst]:.4g}, the typical sample {typical:.4g}; remove it, or the int8"
                " range is lost to it"
            )
    return None


def find_mismatch(calibration: Samples, evaluation: Samples) -> CalibrationMismatch | None:
    """The input whose evaluation values do not fit the calibrated range, or None."""
    seen = _floats(evaluation)
    for name, array in _floats(calibration).items():
        reason = _why_unlike(array, seen[name])
        if reason is not None:
            return CalibrationMismatch(
                f"{calibration.origin}: {name!r} is {reason} of {evaluation.origin}; calibrate on"
                " samples that are scaled like the real input"
            )
    return None


def _why_unlike(calibrated: NDArray[Any], evaluated: NDArray[Any]) -> str | None:
    low, high = float(calibrated.min()), float(calibrated.max())
    slack = MARGIN * (high - low)
    outside = float(((evaluated < low - slack) | (evaluated > high + slack)).mean())
    if outside > MAX_OUTSIDE:
        return f"in [{low:.4g}, {high:.4g}], which leaves out {100 * outside:.1f} % of the values"
    ours, theirs = _bulk(calibrated), _bulk(evaluated)
    if ours > MAX_SPAN_RATIO * theirs > 0:
        return f"in [{low:.4g}, {high:.4g}], {ours / theirs:.1f} times as wide as the values"
    return None


def _bulk(array: NDArray[Any]) -> float:
    """Width of the central 98 %: a few legitimate extremes are no wrong scale."""
    flat = array.reshape(-1)
    step = -(-flat.size // _BULK_VALUES) | 1  # odd: channels often come in even numbers
    low, high = np.percentile(flat[::step].astype(np.float64), [1, 99])
    return float(high - low)


def _floats(samples: Samples) -> dict[str, NDArray[Any]]:
    return {n: a for n, a in samples.arrays.items() if a.dtype.kind == "f"}


def _keys(samples: Samples) -> list[bytes]:
    """One digest a sample, over all its inputs; -0.0 and 0.0 are one value."""
    keys = [hashlib.sha256() for _ in range(len(samples))]
    for array in samples.arrays.values():
        plain = array + 0.0 if array.dtype.kind == "f" else array
        for key, row in zip(keys, plain, strict=True):
            key.update(np.ascontiguousarray(row).tobytes())
    return [key.digest() for key in keys]
