"""Calibration and evaluation data, checked against the model's inputs, whatever it came from.

An array is an input of the model, by name. Casts nothing whose meaning it would have to guess.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from contract.manifest import TensorSpec
from converter.data.raw import LABELS, Raw, Reading
from converter.data.reading import read_raw
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

Arrays = Mapping[str, NDArray[Any]]


@dataclass(frozen=True)
class Samples:
    """Arrays by input name, each [N, ...] with the same N >= 1; `labels` int64 [N] or None.

    `names`: of each sample, where it has one. `classes`: names that the source gave to the labels.
    """

    origin: str
    arrays: Arrays
    labels: NDArray[np.int64] | None = None
    names: tuple[str, ...] = ()
    classes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(next(iter(self.arrays.values())))

    def take(self, index: Sequence[int] | NDArray[np.int64] | slice) -> Samples:
        """The samples at `index`, in that order."""
        arrays = {name: array[index] for name, array in self.arrays.items()}
        labels = None if self.labels is None else self.labels[index]
        places = np.arange(len(self))[index] if self.names else ()
        names = tuple(self.names[place] for place in places)
        return Samples(self.origin, arrays, labels, names, self.classes)

    def said(self, place: int) -> str:
        """How a message calls the sample at `place`."""
        return _said(self.names, place)

    def batches(self, batch: int = -1) -> Iterator[dict[str, NDArray[Any]]]:
        """Consecutive slices of at most `BATCH` samples, or of `batch` when the model fixes it."""
        step = BATCH if batch < 1 else batch
        for start in range(0, len(self), step):
            yield {name: array[start : start + step] for name, array in self.arrays.items()}


def read_samples(
    path: Path, inputs: Sequence[TensorSpec], reading: Reading | None = None
) -> Samples:
    """Read and check `path`; raises the `ConvertError` that names array and sample."""
    raw = read_raw(path, inputs, reading or Reading())
    _require_arrays(path, raw.arrays, inputs)
    arrays = {spec.name: _checked(path, raw, spec) for spec in inputs}
    lengths = {name: len(array) for name, array in arrays.items()}
    if len(set(lengths.values())) != 1:
        raise WrongShape(f"{path}: arrays hold different numbers of samples: {lengths}")
    count = next(iter(lengths.values()))
    # The name may end in the manifest, which is UTF-8; a file's name may be any bytes.
    origin = path.name.encode(errors="replace").decode()
    labels = None if raw.labels is None else _labels(path, raw.labels, count)
    return Samples(origin, arrays, labels, raw.names, raw.classes)


def hold_out(samples: Samples) -> tuple[Samples, Samples]:
    """For want of evaluation data: every fourth sample is kept out of the calibration."""
    place = np.arange(len(samples))
    if len(samples) < 4:
        raise NoSamples(
            f"{samples.origin}: {len(samples)} samples cannot serve calibration and evaluation"
            " both; give at least 4, or an evaluation file"
        )
    return samples.take(place[place % 4 != 3]), samples.take(place[place % 4 == 3])


def _require_arrays(path: Path, raw: Arrays, inputs: Sequence[TensorSpec]) -> None:
    wanted, found = {spec.name for spec in inputs}, set(raw)
    if wanted != found:
        raise WrongArrays(
            f"{path}: holds {_names(found)}, the model's inputs are {_names(wanted)};"
            f" name the arrays like the inputs ({LABELS!r} is for the labels)"
        )


def _checked(path: Path, raw: Raw, spec: TensorSpec) -> NDArray[Any]:
    array = raw.arrays[spec.name]
    want = spec.shape[1:]
    if array.ndim != len(spec.shape) or list(array.shape[1:]) != want:
        raise WrongShape(
            f"{path}: {spec.name!r} has shape {list(array.shape)}, the model takes"
            f" {['N', *want]}; reshape the samples".replace("'N'", "N")
        )
    if len(array) == 0:
        raise NoSamples(f"{path}: {spec.name!r} holds no samples; give at least one")
    array = _cast(path, array, spec)
    if array.dtype.kind == "f":
        _refuse_non_finite(path, array, spec.name, raw.names)
        if len(array) > 1 and array.min() == array.max():
            raise ConstantSamples(
                f"{path}: every value of {spec.name!r} is {array.flat[0]}; give real samples"
            )
    return array


def _cast(path: Path, array: NDArray[Any], spec: TensorSpec) -> NDArray[Any]:
    """Between float widths only: integers for a float input usually lack the model's scaling."""
    want = np.dtype(spec.dtype)
    if array.dtype == want:
        return np.ascontiguousarray(array)
    if array.dtype.kind == "f" and want.kind == "f":
        with np.errstate(over="ignore"):  # what overflows is found as Inf right after
            return np.ascontiguousarray(array, dtype=want)
    raise WrongType(
        f"{path}: {spec.name!r} is {array.dtype}, the model takes {spec.dtype}; save the samples"
        " scaled and typed as the model was trained on"
    )


def _refuse_non_finite(path: Path, array: NDArray[Any], name: str, names: Sequence[str]) -> None:
    good = np.isfinite(array).reshape(len(array), -1).all(axis=1)
    if not good.all():
        first = int(np.argmin(good))
        raise NonFiniteSamples(
            f"{path}: {_said(names, first)} of {name!r} has NaN or Inf ({int((~good).sum())} of"
            f" {len(array)} samples do); remove them"
        )


def _labels(path: Path, labels: NDArray[Any], count: int) -> NDArray[np.int64]:
    if labels.dtype.kind not in "iu" or labels.ndim != 1:
        raise BadLabels(
            f"{path}: {LABELS!r} is {labels.dtype} of shape {list(labels.shape)}; give one class"
            " number a sample (integers, one dimension)"
        )
    if len(labels) != count:
        raise BadLabels(f"{path}: {len(labels)} labels for {count} samples; give one a sample")
    return labels.astype(np.int64)


def _said(names: Sequence[str], place: int) -> str:
    return f"sample {place} ({names[place]})" if names else f"sample {place}"


def _names(names: set[str]) -> str:
    return ", ".join(repr(name) for name in sorted(names)) or "nothing"
