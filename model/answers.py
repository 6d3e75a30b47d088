"""Class, confidence and entropy of each answer of a classifier. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from contract.manifest import TensorSpec
from model.errors import InvalidInput
from model.features import Floats
from model.tensors import Array, Tensors, real_values

_SUM_TOLERANCE = 0.1
"""An int8 softmax over many classes adds up to 1 only roughly."""
_TINY = 1e-12


@dataclass(frozen=True, eq=False)
class Answers:
    """Per row: the top class (-1 when the row is not finite), its probability, the entropy in
    nats; both NaN when not finite."""

    classes: Array
    confidence: Floats
    entropy: Floats


def class_output(
    outputs: Sequence[TensorSpec], batch_axis: Sequence[int], classes: int = 0
) -> TensorSpec | None:
    """The one output that gives a score a class, [rows, ..1.., classes]; None unless there is
    exactly one. `classes` is the number of labels, 0 when it is not known."""
    found = [
        spec
        for spec in outputs
        if len(spec.shape) >= 2
        and spec.shape[:1] == list(batch_axis)
        and spec.shape[-1] >= 2
        and all(size == 1 for size in spec.shape[1:-1])
        and classes in (0, spec.shape[-1])
    ]
    return found[0] if len(found) == 1 else None


def is_distribution(spec: TensorSpec, array: Array) -> bool:
    """Whether every finite row is a probability distribution already."""
    scores = _scores(spec, array)
    scores = scores[np.isfinite(scores).all(axis=1)]
    near_one = np.abs(scores.sum(axis=1) - 1.0) <= _SUM_TOLERANCE
    return bool(len(scores) and (scores >= -_TINY).all() and near_one.all())


def answers_of(spec: TensorSpec, tensors: Tensors, softmax: bool) -> Answers:
    """Class, confidence and entropy of each row; raises `InvalidInput` when the output is absent
    or has another number of classes."""
    array = tensors.get(spec.name)
    if array is None or array.ndim < 2 or array.shape[-1] != spec.shape[-1]:
        raise InvalidInput(f"output {spec.name!r} is missing, or not of {spec.shape[-1]} classes")
    scores = _scores(spec, array)
    good: Array = np.logical_and.reduce(np.isfinite(scores), axis=1)
    probabilities = _probabilities(np.where(good[:, None], scores, 0.0), softmax)
    logs = np.log(np.maximum(probabilities, _TINY))
    return Answers(
        classes=np.where(good, scores.argmax(axis=1), -1),
        confidence=np.where(good, probabilities.max(axis=1), np.nan),
        entropy=np.where(good, -(probabilities * logs).sum(axis=1), np.nan),
    )


def _scores(spec: TensorSpec, array: Array) -> Floats:
    return real_values(spec, array).reshape(-1, spec.shape[-1])


def _probabilities(scores: Floats, softmax: bool) -> Floats:
    if softmax:
        weights = np.exp(scores - scores.max(axis=1, keepdims=True))
    else:
        weights = np.maximum(scores, 0.0)
    found: Floats = weights / np.maximum(weights.sum(axis=1, keepdims=True), _TINY)
    return found
