"""Calibration and evaluation data, checked against the model's inputs, whatever it came from.

An array is an input of the model, by name. Few samples are held in memory; many stay on the disk,
and are read in batches. Casts nothing whose meaning it would have to guess.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from contract.manifest import TensorSpec
from converter.data.raw import LABELS, Raw, Reading
from converter.data.reading import read_raw
from converter.data.rows import Array, Index, Rows, blocks, refuse_too_many
from converter.data.spool import in_row_order
from converter.errors import (
    BadLabels,
    ConstantSamples,
    NonFiniteSamples,
    NoSamples,
    WrongArrays,
    WrongShape,
    WrongType,
)

BATCH = 32
"""Samples a call: so that calibration holds one batch of activations, however long the file."""

Arrays = Mapping[str, Any]
"""By name, each [N, ...]: numpy's, or `Rows` where they are many."""


@dataclass(frozen=True, eq=False)
class Extremes:
    """The least and the greatest value of each sample of one input, both [N]; NaN where one is."""

    low: Array
    high: Array

    def take(self, index: Index) -> Extremes:
        """Of the samples at `index`."""
        return Extremes(self.low[index], self.high[index])


@dataclass(frozen=True)
class Samples:
    """Arrays by input name, each [N, ...] with the same N >= 1; `labels` int64 [N] or None.

    An array is numpy's, or `Rows` on the disk: to slice, to index and to take from, and never to
    compute with as a whole. `names`: of each sample, where it has one. `classes`: names that the
    source gave to the labels. `columns`: of a table, in the order of its arrays.
    """

    origin: str
    arrays: Mapping[str, Any]
    labels: NDArray[np.int64] | None = None
    names: tuple[str, ...] = ()
    classes: tuple[str, ...] = ()
    spool: Path | None = None
    """Where a file without a name may keep what a model answers; None: with temporary files."""
    columns: tuple[str, ...] = ()
    _extremes: dict[str, Extremes] = field(default_factory=dict, repr=False, compare=False)

    def __len__(self) -> int:
        return len(next(iter(self.arrays.values())))

    def take(self, index: Index) -> Samples:
        """The samples at `index`, in that order."""
        arrays = {
            name: array.take(index) if isinstance(array, Rows) else array[index]
            for name, array in self.arrays.items()
        }
        labels = None if self.labels is None else self.labels[index]
        places = np.arange(len(self))[index] if self.names else ()
        names = tuple(self.names[place] for place in places)
        extremes = {name: known.take(index) for name, known in self._extremes.items()}
        return replace(self, arrays=arrays, labels=labels, names=names, _extremes=extremes)

    def changed(self, changes: Mapping[str, tuple[Callable[[Array], Array], str]]) -> Samples:
        """Other values and types (change, dtype) for some of the inputs, made as they are read."""
        arrays = dict(self.arrays)
        for name, (change, dtype) in changes.items():
            arrays[name] = _changed(arrays[name], change, np.dtype(dtype))
        return replace(self, arrays=arrays, _extremes={})

    def said(self, place: int) -> str:
        """How a message calls the sample at `place`."""
        return _said(self.names, place)

    def batches(self, batch: int = -1) -> Iterator[dict[str, NDArray[Any]]]:
        """Consecutive slices of at most `BATCH` samples, or of `batch` when the model fixes it."""
        step = BATCH if batch < 1 else batch
        for start in range(0, len(self), step):
            yield {name: array[start : start + step] for name, array in self.arrays.items()}

    def extremes(self, name: str) -> Extremes:
        """Of the input `name`; one pass over it, made once for all that ask."""
        if name not in self._extremes:
            self._extremes[name] = _extremes(self.arrays[name])
        return self._extremes[name]


def read_samples(
    path: Path, inputs: Sequence[TensorSpec], reading: Reading | None = None
) -> Samples:
    """Read and check `path`; raises the `ConvertError` that names array and sample."""
    raw = read_raw(path, inputs, reading or Reading())
    _require_arrays(path, raw.arrays, inputs)
    folder = reading.spool if reading is not None else None
    checked = [_checked(path, raw, spec, folder) for spec in inputs]
    arrays = {spec.name: array for spec, (array, _) in zip(inputs, checked, strict=True)}
    extremes = {spec.name: e for spec, (_, e) in zip(inputs, checked, strict=True) if e is not None}
    lengths = {name: len(array) for name, array in arrays.items()}
    if len(set(lengths.values())) != 1:
        raise WrongShape(f"{path}: arrays hold different numbers of samples: {lengths}")
    count = next(iter(lengths.values()))
    # The name may end in the manifest, which is UTF-8; a file's name may be any bytes.
    origin = path.name.encode(errors="replace").decode()
    labels = None if raw.labels is None else _labels(path, raw.labels, count)
    return Samples(origin, arrays, labels, raw.names, raw.classes, folder, raw.columns, extremes)


def hold_out(samples: Samples) -> tuple[Samples, Samples]:
    """For want of evaluation data: every fourth sample is kept out of the calibration."""
    place = np.arange(len(samples))
    if len(samples) < 4:
        raise NoSamples(
            f"{samples.origin}: {len(samples)} samples cannot serve calibration and evaluation"
            " both; give at least 4, or an evaluation file"
        )
    return samples.take(place[place % 4 != 3]), samples.take(place[place % 4 == 3])


def _require_arrays(path: Path, raw: Mapping[str, Any], inputs: Sequence[TensorSpec]) -> None:
    wanted, found = {spec.name for spec in inputs}, set(raw)
    if wanted != found:
        raise WrongArrays(
            f"{path}: holds {_names(found)}, the model's inputs are {_inputs(inputs)};"
            f" name the arrays like the inputs ({LABELS!r} is for the labels)"
        )


def _checked(
    path: Path, raw: Raw, spec: TensorSpec, folder: Path | None
) -> tuple[Array | Rows, Extremes | None]:
    """The array as the model takes it and, of floats, what the one pass over it found."""
    array = raw.arrays[spec.name]
    want = spec.shape[1:]
    if array.ndim != len(spec.shape) or list(array.shape[1:]) != want:
        raise WrongShape(
            f"{path}: {spec.name!r} has shape {list(array.shape)}, the model takes"
            f" {['N', *want]}; {_remedy(array.shape[1:], want)}".replace("'N'", "N")
        )
    if len(array) == 0:
        raise NoSamples(f"{path}: {spec.name!r} holds no samples; give at least one")
    refuse_too_many(str(path), len(array))
    array = _cast(path, array, spec)
    array = in_row_order(array, str(path), folder)
    if array.dtype.kind != "f":
        return array, None
    found = _extremes(array)
    _refuse_non_finite(path, found, spec.name, raw.names)
    if len(array) > 1 and found.low.min() == found.high.max():
        raise ConstantSamples(
            f"{path}: every value of {spec.name!r} is {found.low[0]}; give real samples"
        )
    return array, found


def _remedy(found: Sequence[int], want: Sequence[int]) -> str:
    """Reshaped, samples of another layout would have the right shape, and scrambled values."""
    if sum(size > 1 for size in want) > 1 and sorted(found) == sorted(want):
        return "the layout is another one: transpose the samples (numpy.transpose), never reshape"
    return "reshape the samples"


def _cast(path: Path, array: Array | Rows, spec: TensorSpec) -> Array | Rows:
    """Between float widths only: integers for a float input usually lack the model's scaling."""
    want = np.dtype(spec.dtype)
    if array.dtype == want:
        return array
    if array.dtype.kind == "f" and want.kind == "f":
        return _changed(array, _to(want), want)
    raise WrongType(
        f"{path}: {spec.name!r} is {array.dtype}, the model takes {spec.dtype}; save the samples"
        " scaled and typed as the model was trained on"
    )


def _to(want: np.dtype[Any]) -> Callable[[Array], Array]:
    def narrow(values: Array) -> Array:
        with np.errstate(over="ignore"):  # what overflows is found as Inf right after
            return np.ascontiguousarray(values, dtype=want)

    return narrow


def _changed(
    array: Array | Rows, change: Callable[[Array], Array], dtype: np.dtype[Any]
) -> Array | Rows:
    return array.changed(change, dtype) if isinstance(array, Rows) else change(array)


def _extremes(array: Array | Rows) -> Extremes:
    lows, highs = [], []
    for _, block in blocks(array):
        rows = block.reshape(len(block), -1)
        with np.errstate(invalid="ignore"):  # NaN is what is looked for
            lows.append(rows.min(axis=1))
            highs.append(rows.max(axis=1))
    return Extremes(np.concatenate(lows), np.concatenate(highs))


def _refuse_non_finite(path: Path, found: Extremes, name: str, names: Sequence[str]) -> None:
    # Both ends are NaN where any value is.
    good = np.isfinite(found.low) & np.isfinite(found.high)
    if not good.all():
        first = int(np.argmin(good))
        raise NonFiniteSamples(
            f"{path}: {_said(names, first)} of {name!r} has NaN or Inf ({int((~good).sum())} of"
            f" {len(good)} samples do); remove them"
        )


def _labels(path: Path, labels: Array | Rows, count: int) -> NDArray[np.int64]:
    if labels.dtype.kind not in "iu" or labels.ndim != 1:
        raise BadLabels(
            f"{path}: {LABELS!r} is {labels.dtype} of shape {list(labels.shape)}; give one class"
            " number a sample (integers, one dimension)"
        )
    if len(labels) != count:
        raise BadLabels(f"{path}: {len(labels)} labels for {count} samples; give one a sample")
    return np.asarray(labels[:], np.int64)


def _said(names: Sequence[str], place: int) -> str:
    return f"sample {place} ({names[place]})" if names else f"sample {place}"


def _inputs(specs: Sequence[TensorSpec]) -> str:
    """Names, types and shapes: often the first that somebody learns of the model's inputs."""
    shown = sorted(specs, key=lambda spec: spec.name)
    return ", ".join(
        f"{spec.name!r} ({spec.dtype} [{', '.join(map(str, ['N', *spec.shape[1:]]))}])"
        for spec in shown
    )


def _names(names: set[str]) -> str:
    return ", ".join(repr(name) for name in sorted(names)) or "nothing"
