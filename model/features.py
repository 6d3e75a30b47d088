"""What of a model's inputs is watched for drift: a few numbers a row, named. Pure.

Tables of up to 64 columns are watched column by column, everything else through summary
statistics. Values are real ones (dequantised), in float64, computed row by row, so that a row
counts the same alone as in a batch. A row that holds a NaN or Inf has no statistics: all are NaN.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from contract.manifest import TensorSpec
from model.errors import InvalidInput
from model.tensors import Array, Tensors, real_values

Floats = npt.NDArray[np.float64]

MAX_COLUMNS = 64
MAX_FEATURES = 256
"""As many as one report holds; what comes after them is not watched."""
_MAX_RANKED = 4_096
"""Quantiles of larger inputs are taken over an evenly spaced part of the values."""
_SUMMARY = ("mean", "std", "min", "p05", "p50", "p95", "max", "edge")
_CENTRE = ("centre-row", "centre-column")


def feature_names(inputs: Sequence[TensorSpec]) -> list[str]:
    """The features of a model with these inputs, in the order of `feature_rows`' columns.

    `{input}.{statistic}` or `{input}[{column}]`. Inputs whose first axis is not the rows of the
    first input are not watched.
    """
    names = [name for spec in watched(inputs) for name in _names(spec)]
    return names[:MAX_FEATURES]


def feature_rows(inputs: Sequence[TensorSpec], tensors: Tensors) -> Floats:
    """The features of a batch, [rows, features]; raises `InvalidInput` where rows do not match."""
    blocks = [_features(spec, tensors) for spec in watched(inputs)]
    if len({len(block) for block in blocks}) > 1:
        raise InvalidInput("inputs have different numbers of rows")
    if not blocks:
        return np.empty((0, 0))
    return np.concatenate(blocks, axis=1)[:, :MAX_FEATURES]


def watched(inputs: Sequence[TensorSpec]) -> list[TensorSpec]:
    """The inputs that hold one row a sample: those with the first input's first axis. None
    when that is a scalar."""
    axis = inputs[0].shape[:1]
    return [spec for spec in inputs if spec.shape and spec.shape[:1] == axis]


def _names(spec: TensorSpec) -> list[str]:
    if _is_table(spec):
        return [f"{spec.name}[{column}]" for column in range(spec.shape[1])]
    statistics = _SUMMARY + _CENTRE if len(spec.shape) >= 3 else _SUMMARY
    return [f"{spec.name}.{statistic}" for statistic in statistics]


def _is_table(spec: TensorSpec) -> bool:
    return len(spec.shape) == 2 and 1 <= spec.shape[1] <= MAX_COLUMNS


def _features(spec: TensorSpec, tensors: Tensors) -> Floats:
    array = tensors.get(spec.name)
    if array is None or array.ndim != len(spec.shape):
        raise InvalidInput(f"input {spec.name!r} is missing, or its rank is not {len(spec.shape)}")
    values = real_values(spec, array)
    if _is_table(spec):
        if values.shape[1] != spec.shape[1]:
            raise InvalidInput(f"input {spec.name!r} has {values.shape[1]} columns")
        return values
    return _summaries(values)


def _summaries(values: Array) -> Floats:
    """Statistics of each row of [rows, ...], NaN for a row that is empty or not finite."""
    rows = values.reshape(len(values), math.prod(values.shape[1:]))
    columns = len(_SUMMARY) + (len(_CENTRE) if values.ndim >= 3 else 0)
    found = np.full((len(rows), columns), np.nan)
    good = np.isfinite(rows).all(axis=1)
    if not rows.size or not good.any():
        return found
    # Values near the limit of float64 overflow to Inf, which counts as missing; that is meant.
    with np.errstate(over="ignore", invalid="ignore"):
        parts = [_flat_statistics(rows[good]), _edges(values[good])]
        if values.ndim >= 3:
            parts += _centres(values[good])
    found[good] = np.stack([column for part in parts for column in _columns(part)], axis=1)
    return found


def _columns(part: Floats) -> list[Floats]:
    return [part] if part.ndim == 1 else list(part)


def _flat_statistics(rows: Floats) -> Floats:
    """mean, std, min, p05, p50, p95, max of each row, as [7, rows]."""
    ranked = np.sort(rows[:, :: -(-rows.shape[1] // _MAX_RANKED)], axis=1)
    last = ranked.shape[1] - 1
    quantiles = [ranked[:, round(q * last)] for q in (0.05, 0.5, 0.95)]
    return np.stack(
        [rows.mean(axis=1), rows.std(axis=1), rows.min(axis=1), *quantiles, rows.max(axis=1)]
    )


def _edges(values: Array) -> Floats:
    """Mean absolute step between neighbours along the two longest axes: blur lowers it, noise
    raises it."""
    total = np.zeros(len(values))
    for axis in _plane(values):
        if values.shape[axis] > 1:
            steps = np.abs(np.diff(values, axis=axis))
            total += steps.reshape(len(values), -1).mean(axis=1)
    return total


def _centres(values: Array) -> list[Floats]:
    """Where the mass above the row's minimum lies, -1..1 along each axis of the plane: a camera
    that was moved, a window that is cut off."""
    rows = values.reshape(len(values), -1)
    floor = rows.min(axis=1).reshape(-1, *[1] * (values.ndim - 1))
    mass = values - floor
    total = mass.reshape(len(mass), -1).sum(axis=1)
    found = []
    for axis in _plane(values):
        others = tuple(a for a in range(1, values.ndim) if a != axis)
        weights = mass.sum(axis=others) if others else mass
        places = np.linspace(-1.0, 1.0, values.shape[axis]) if values.shape[axis] > 1 else [0.0]
        moment = (weights * places).sum(axis=1)
        found.append(np.divide(moment, total, out=np.zeros(len(total)), where=total > 0))
    return found


def _plane(values: Array) -> list[int]:
    """The two longest axes after the first, in order: rows and columns, channels left out."""
    axes = sorted(range(1, values.ndim), key=lambda axis: (-values.shape[axis], axis))
    return sorted(axes[:2])
