"""Calibration and evaluation data: .npz files, bounded, checked against the model's inputs.

An array of the file is an input of the model, by name; `labels` is the one exception. Refuses
pickles, and casts nothing whose meaning it would have to guess.
"""

from __future__ import annotations

import lzma
import struct
import tokenize
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from contract.manifest import TensorSpec
from converter.errors import (
    BadLabels,
    ConstantSamples,
    NonFiniteSamples,
    NoSamples,
    SamplesUnreadable,
    WrongArrays,
    WrongShape,
    WrongType,
)

LABELS = "labels"
MAX_ARRAYS = 64
MAX_DATA_BYTES = 4 << 30
BATCH = 32
"""Samples a call: so that calibration holds one batch of activations, however long the file."""

# What zipfile and numpy raise on damaged or hostile archives is not one family.
_DAMAGE = (
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    struct.error,
    tokenize.TokenError,
    EOFError,
    KeyError,
    MemoryError,
    OverflowError,
    RuntimeError,
    TypeError,
    ValueError,
)

Arrays = Mapping[str, NDArray[Any]]


@dataclass(frozen=True)
class Samples:
    """Arrays by input name, each [N, ...] with the same N >= 1; `labels` int64 [N] or None."""

    origin: str
    arrays: Arrays
    labels: NDArray[np.int64] | None = None

    def __len__(self) -> int:
        return len(next(iter(self.arrays.values())))

    def take(self, index: Sequence[int] | NDArray[np.int64] | slice) -> Samples:
        """The samples at `index`, in that order."""
        arrays = {name: array[index] for name, array in self.arrays.items()}
        return Samples(self.origin, arrays, None if self.labels is None else self.labels[index])

    def batches(self, batch: int = -1) -> Iterator[dict[str, NDArray[Any]]]:
        """Consecutive slices of at most `BATCH` samples, or of `batch` when the model fixes it."""
        step = BATCH if batch < 1 else batch
        for start in range(0, len(self), step):
            yield {name: array[start : start + step] for name, array in self.arrays.items()}


def read_samples(path: Path, inputs: Sequence[TensorSpec]) -> Samples:
    """Read and check `path`; raises the `ConvertError` that names array and sample."""
    raw = _load(path)
    labels = raw.pop(LABELS, None) if LABELS not in {spec.name for spec in inputs} else None
    _require_arrays(path, raw, inputs)
    arrays = {spec.name: _checked(path, raw[spec.name], spec) for spec in inputs}
    lengths = {name: len(array) for name, array in arrays.items()}
    if len(set(lengths.values())) != 1:
        raise WrongShape(f"{path}: arrays hold different numbers of samples: {lengths}")
    count = next(iter(lengths.values()))
    # The name may end in the manifest, which is UTF-8; a file's name may be any bytes.
    origin = path.name.encode(errors="replace").decode()
    return Samples(origin, arrays, None if labels is None else _labels(path, labels, count))


def hold_out(samples: Samples) -> tuple[Samples, Samples]:
    """For want of evaluation data: every fourth sample is kept out of the calibration."""
    place = np.arange(len(samples))
    if len(samples) < 4:
        raise NoSamples(
            f"{samples.origin}: {len(samples)} samples cannot serve calibration and evaluation"
            " both; give at least 4, or an evaluation file"
        )
    return samples.take(place[place % 4 != 3]), samples.take(place[place % 4 == 3])


def _load(path: Path) -> dict[str, NDArray[Any]]:
    try:
        _refuse_oversize(path)
        with np.load(path, allow_pickle=False) as file:
            return {name: _array(file[name]) for name in file.files}
    except OSError as error:
        reason = error.strerror or "cannot be read"
        raise SamplesUnreadable(f"{path}: {reason}; check the path of the samples") from error
    except _DAMAGE as error:
        what = "holds Python objects" if "allow_pickle" in str(error) else "not a readable .npz"
        raise SamplesUnreadable(
            f"{path}: {what}; write plain arrays with numpy.savez({path.name!r}, INPUT=array)"
        ) from error


def _array(member: object) -> NDArray[Any]:
    """numpy hands out the bytes of a member that is no array."""
    if not isinstance(member, np.ndarray):
        raise ValueError("a member of the archive is not an array")
    return member


def _refuse_oversize(path: Path) -> None:
    """By the archive's own directory, so that nothing is unpacked before it is bounded."""
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
    total = sum(member.file_size for member in members)
    if len(members) > MAX_ARRAYS or total > MAX_DATA_BYTES:
        raise SamplesUnreadable(
            f"{path}: {len(members)} arrays of {total} bytes; at most {MAX_ARRAYS} arrays of"
            f" {MAX_DATA_BYTES} bytes, give fewer samples"
        )


def _require_arrays(path: Path, raw: Arrays, inputs: Sequence[TensorSpec]) -> None:
    wanted, found = {spec.name for spec in inputs}, set(raw)
    if wanted != found:
        raise WrongArrays(
            f"{path}: holds {_names(found)}, the model's inputs are {_names(wanted)};"
            f" name the arrays like the inputs ({LABELS!r} is for the labels)"
        )


def _checked(path: Path, array: NDArray[Any], spec: TensorSpec) -> NDArray[Any]:
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
        _refuse_non_finite(path, array, spec.name)
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


def _refuse_non_finite(path: Path, array: NDArray[Any], name: str) -> None:
    good = np.isfinite(array).reshape(len(array), -1).all(axis=1)
    if not good.all():
        first = int(np.argmin(good))
        raise NonFiniteSamples(
            f"{path}: sample {first} of {name!r} has NaN or Inf ({int((~good).sum())} of"
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


def _names(names: set[str]) -> str:
    return ", ".join(repr(name) for name in sorted(names)) or "nothing"
