"""Which classes are taken for which: pure counting, and what the counts say class by class."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from converter.report import Confusion, ConfusionCell

MAX_CELLS = 4_096
"""Of a model with thousands of classes the largest cells are kept, mistakes first."""


@dataclass(frozen=True)
class Recall:
    """Of `samples` samples of a class, this share (percent) was answered right."""

    label: int
    samples: int
    percent: float


def confusion_of(labels: Sequence[int], answers: Sequence[int], classes: int) -> Confusion:
    """Count pairs of (label, answer), both in 0..classes-1."""
    counts: dict[tuple[int, int], int] = {}
    for pair in zip(labels, answers, strict=True):
        key = (int(pair[0]), int(pair[1]))
        counts[key] = counts.get(key, 0) + 1
    # The diagonal goes last: it can be told from the accuracy, the mistakes cannot.
    ranked = sorted(counts.items(), key=lambda item: (item[0][0] == item[0][1], -item[1], item[0]))
    kept = sorted(ranked[:MAX_CELLS])
    return Confusion(
        classes=classes, cells=[ConfusionCell(row, column, count) for (row, column), count in kept]
    )


def recalls(confusion: Confusion) -> dict[int, Recall]:
    """By label, for the labels that occur."""
    totals: dict[int, int] = {}
    right: dict[int, int] = {}
    for cell in confusion.cells:
        totals[cell.label] = totals.get(cell.label, 0) + cell.count
        if cell.label == cell.answer:
            right[cell.label] = cell.count
    return {
        label: Recall(label, total, 100 * right.get(label, 0) / total)
        for label, total in sorted(totals.items())
        if total > 0
    }


def mistakes(confusion: Confusion) -> list[ConfusionCell]:
    """What is taken for something else, the most frequent first."""
    wrong = [cell for cell in confusion.cells if cell.label != cell.answer]
    return sorted(wrong, key=lambda cell: (-cell.count, cell.label, cell.answer))


def class_name(labels: Sequence[str], place: int) -> str:
    """The class's name, or its number where it has none."""
    return labels[place] if 0 <= place < len(labels) and labels[place] else str(place)
