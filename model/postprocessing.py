"""Scores -> named answers, by the release's recipe: softmax, the best few, thresholds. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from contract.manifest import TensorSpec
from contract.processing import Classification
from model.errors import InvalidInput
from model.tensors import Array, real_values


@dataclass(frozen=True)
class Prediction:
    """One class of an answer: its number, its name ('' when it has none), its probability."""

    place: int
    label: str
    probability: float


def classify(
    recipe: Classification, spec: TensorSpec, labels: Sequence[str], outputs: Mapping[str, Array]
) -> list[list[Prediction]]:
    """For each row the likeliest classes that reach their threshold, best first; maybe none.

    `spec` describes the recipe's output. A row that is not finite has no answer. Raises
    `InvalidInput`.
    """
    array = outputs.get(recipe.output)
    if array is None or array.ndim < 2 or array.shape[-1] != spec.shape[-1]:
        raise InvalidInput(
            f"output {recipe.output!r} is missing, or not of {spec.shape[-1]} scores"
        )
    scores = real_values(spec, array).reshape(len(array), -1)
    if scores.shape[1] != spec.shape[-1]:
        raise InvalidInput(f"output {recipe.output!r} has more than one score a class")
    return [_row(recipe, labels, row) for row in scores]


def softmax(scores: Array) -> Array:
    """float64 [..., classes]: probabilities of logits, safe against overflow."""
    weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
    found: Array = weights / weights.sum(axis=-1, keepdims=True)
    return found


def _row(recipe: Classification, labels: Sequence[str], scores: Array) -> list[Prediction]:
    if not np.isfinite(scores).all():
        return []
    shares = softmax(scores) if recipe.softmax else scores
    # A stable sort, so that equal classes come in their own order everywhere.
    best = np.argsort(-shares, kind="stable")[: recipe.top]
    found = []
    for place in best.tolist():
        label = labels[place] if place < len(labels) else ""
        share = float(shares[place])
        if share >= recipe.thresholds.get(label, recipe.threshold):
            found.append(Prediction(place, label, share))
    return found
