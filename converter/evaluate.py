"""What the int8 model is worth beside the float one: pure arithmetic over their answers.

All shares are in percent. A classifier's answers agree when their top classes do; any other two
answers agree when every value lies within 5 % of its output's range.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from contract.manifest import TensorSpec
from converter.errors import BadLabels
from converter.samples import Arrays

SQNR_CEILING_DB = 120.0
"""What equal answers are given as: JSON has no infinity."""
CLOSE = 0.05


@dataclass(frozen=True)
class Comparison:
    """int8 against float32 on the same samples; accuracies are None where there were no labels."""

    samples: int
    agreement: float
    sqnr_db: float
    accuracy: float | None = None
    accuracy_float32: float | None = None
    majority: float | None = None
    """What always giving the most frequent label would score."""
    answered: int | None = None
    """How many classes float32 answered with at all; None where the model is no classifier."""


def compare(
    reference: Arrays,
    answers: Arrays,
    labels: NDArray[np.int64] | None,
    classes: TensorSpec | None,
) -> Comparison:
    """Compare outputs by name, each [N, ...]; `classes` is the output that scores the classes.

    Raises `BadLabels` when there are labels and they do not fit.
    """
    count = len(next(iter(reference.values())))
    if classes is None:
        if labels is not None:
            raise BadLabels(
                "labels given, but the model has no single output [N, classes]; remove them"
            )
        agreed = _close(reference, answers)
        return Comparison(count, _percent(agreed), sqnr_db(reference, answers))
    theirs, ours = top_class(reference, classes), top_class(answers, classes)
    agreement = _percent(theirs == ours)
    if labels is None:
        sqnr = sqnr_db(reference, answers)
        return Comparison(count, agreement, sqnr, answered=len(np.unique(theirs)))
    check_labels(labels, classes.shape[-1])
    return Comparison(
        samples=count,
        agreement=agreement,
        sqnr_db=sqnr_db(reference, answers),
        accuracy=_percent(ours == labels),
        accuracy_float32=_percent(theirs == labels),
        majority=round(100 * float(np.bincount(labels).max()) / count, 3),
        answered=len(np.unique(theirs)),
    )


def top_class(answers: Arrays, classes: TensorSpec) -> NDArray[np.int64]:
    """int64 [N]: the place of each sample's largest score."""
    scores = answers[classes.name].reshape(-1, classes.shape[-1])
    return np.asarray(scores.argmax(axis=1), dtype=np.int64)


def sqnr_db(reference: Arrays, answers: Arrays) -> float:
    """Signal-to-quantisation-noise ratio over all outputs, in dB, at most `SQNR_CEILING_DB`."""
    signal = noise = 0.0
    for name, ours in reference.items():
        wide = ours.astype(np.float64)
        signal += float(np.square(wide).sum())
        noise += float(np.square(wide - answers[name].astype(np.float64)).sum())
    if noise == 0.0:
        return SQNR_CEILING_DB
    if signal == 0.0:
        return -SQNR_CEILING_DB
    ratio = 10 * float(np.log10(signal / noise))
    return round(float(np.clip(ratio, -SQNR_CEILING_DB, SQNR_CEILING_DB)), 2)


def check_labels(labels: NDArray[np.int64], classes: int) -> None:
    """Raise `BadLabels` that names the first label which is not a class of the model."""
    wrong = (labels < 0) | (labels >= classes)
    if wrong.any():
        first = int(wrong.argmax())
        raise BadLabels(
            f"label {labels[first]} of sample {first} is not one of the model's"
            f" {classes} classes; number the classes from 0 to {classes - 1}"
        )


def _close(reference: Arrays, answers: Arrays) -> NDArray[np.bool_]:
    """bool [N]: which samples got nearly the same values in every output."""
    agreed = np.ones(len(next(iter(reference.values()))), dtype=np.bool_)
    for name, ours in reference.items():
        wide = ours.astype(np.float64).reshape(len(ours), -1)
        theirs = answers[name].astype(np.float64).reshape(len(ours), -1)
        agreed &= (np.abs(wide - theirs) <= CLOSE * float(np.ptp(wide))).all(axis=1)
    return agreed


def _percent(right: NDArray[np.bool_]) -> float:
    return round(100 * float(right.mean()), 3)
