"""What the int8 model is worth beside the float one: pure arithmetic over their answers.

All shares are in percent. A classifier's answers agree when their top classes do; any other two
answers agree when every value lies within 5 % of its output's range. Outputs beside the classes are
looked at one by one, as the top class says nothing of them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from contract.manifest import TensorSpec
from converter.answers import pairs, span, wide
from converter.errors import BadLabels
from converter.samples import Arrays
from model.answers import is_distribution

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
    values: Mapping[str, float] = field(default_factory=dict)
    """Of a classifier's outputs whose values matter, too: the share of samples that keep them."""


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
    agreement, sqnr = _percent(theirs == ours), sqnr_db(reference, answers)
    values = _values(reference, answers, classes, doubtful=labels is None)
    if labels is None:
        answered = len(np.unique(theirs))
        return Comparison(count, agreement, sqnr, answered=answered, values=values)
    check_labels(labels, classes.shape[-1])
    return Comparison(
        samples=count,
        agreement=agreement,
        sqnr_db=sqnr,
        accuracy=_percent(ours == labels),
        accuracy_float32=_percent(theirs == labels),
        majority=round(100 * float(np.bincount(labels).max()) / count, 3),
        answered=len(np.unique(theirs)),
        values=values,
    )


def top_class(answers: Arrays, classes: TensorSpec) -> NDArray[np.int64]:
    """int64 [N]: the place of each sample's largest score."""
    scores = answers[classes.name][:].reshape(-1, classes.shape[-1])
    return np.asarray(scores.argmax(axis=1), dtype=np.int64)


def sqnr_db(reference: Arrays, answers: Arrays) -> float:
    """Signal-to-quantisation-noise ratio over all outputs, in dB, at most `SQNR_CEILING_DB`."""
    signal = noise = 0.0
    for name, ours in reference.items():
        for _, reference_rows, rows in pairs(ours, answers[name]):
            signal += float(np.square(reference_rows).sum())
            noise += float(np.square(reference_rows - rows).sum())
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


def _values(
    reference: Arrays, answers: Arrays, classes: TensorSpec, *, doubtful: bool
) -> dict[str, float]:
    """The share of samples that keep the values, of each output beside `classes`.

    `doubtful`: nothing but its shape says that `classes` are classes. Where they do not add up to
    1 either, they may be a regression's numbers; theirs are near when they are so on the average,
    since a thousand scores always hold one that is not.
    """
    beside = {
        name: array
        for name, array in reference.items()
        # One whole number a sample beside the scores is the class again, as scikit-learn has it.
        if name != classes.name
        and not (array.dtype.kind in "iub" and math.prod(array.shape[1:]) == 1)
    }
    found = {
        name: _percent(_close({name: array}, {name: answers[name]}))
        for name, array in beside.items()
    }
    if doubtful and not is_distribution(classes, reference[classes.name][:]):
        ours, theirs = (wide(a[classes.name][:]) for a in (reference, answers))
        away = np.sqrt(np.square(ours - theirs).reshape(len(ours), -1).mean(axis=1))
        found[classes.name] = _percent(np.asarray(away <= CLOSE * float(np.ptp(ours))))
    return found


def _close(reference: Arrays, answers: Arrays) -> NDArray[np.bool_]:
    """bool [N]: which samples got nearly the same values in every output."""
    agreed = np.ones(len(next(iter(reference.values()))), dtype=np.bool_)
    for name, ours in reference.items():
        allowed = CLOSE * span(ours)
        for start, one, other in pairs(ours, answers[name]):
            near = (np.abs(one - other) <= allowed).reshape(len(one), -1).all(axis=1)
            agreed[start : start + len(one)] &= near
    return agreed


def _percent(right: NDArray[np.bool_]) -> float:
    return round(100 * float(right.mean()), 3)
