"""The handwritten digits and the four parts they are cut into.

Owns: loading scikit-learn's 1,797 scans (UCI, 8 x 8 pixels, values 0..16), scaling them, the cut
into train, calibration, evaluation and live, and the `.npz` files that `outrider convert` reads.
Refuses: torch, the network, and any cut in which a scan would land in two parts.
"""

from __future__ import annotations

import hashlib
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.datasets import load_digits

INPUT_NAME = "image"
LABELS_NAME = "labels"
CLASSES = 10
SEED = 20
PIXEL_MAX = 16.0  # the scans count ink in 4 x 4 blocks, so a pixel is 0..16

# Scans a class; the rest, 94 to 103 a class, is for training.
CALIBRATION_PER_CLASS = 20
EVALUATION_PER_CLASS = 30
LIVE_PER_CLASS = 30


class UnexpectedDatasetError(Exception):
    """scikit-learn handed out other scans than the ones this example was made with."""


@dataclass(frozen=True)
class Samples:
    """Scans of one part: `image` float32 [N,1,8,8] in 0..1, `labels` and `index` int64 [N].

    `index` is the scan's place in scikit-learn's own order, so that a part can be named exactly.
    """

    image: NDArray[np.float32]
    labels: NDArray[np.int64]
    index: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True)
class Splits:
    """The four parts. No scan is in two of them, neither by index nor by content."""

    train: Samples
    calibration: Samples
    evaluation: Samples
    live: Samples

    def sizes(self) -> dict[str, int]:
        """Number of scans in each part, by the part's name."""
        return {name: len(part) for name, part in vars(self).items()}


def load_splits(seed: int = SEED) -> Splits:
    """Load all scans and cut them; the same seed gives the same parts on every machine."""
    everything = _load_all()
    train, calibration, evaluation, live = _cut(everything, seed)
    return Splits(
        train=_take(everything, train),
        calibration=_take(everything, calibration),
        evaluation=_take(everything, evaluation),
        live=_take(everything, live),
    )


def write_conversion_inputs(directory: Path, seed: int = SEED) -> tuple[Path, Path]:
    """Write `calib.npz` (`image`) and `eval.npz` (`image`, `labels`); return their paths.

    The keys of the inputs are the model's own input names; the same seed gives the same bytes.
    """
    splits = load_splits(seed)
    calib, evaluation = directory / "calib.npz", directory / "eval.npz"
    directory.mkdir(parents=True, exist_ok=True)
    write_npz(calib, {INPUT_NAME: splits.calibration.image})
    write_npz(
        evaluation,
        {INPUT_NAME: splits.evaluation.image, LABELS_NAME: splits.evaluation.labels},
    )
    return calib, evaluation


def write_npz(path: Path, arrays: dict[str, NDArray[Any]]) -> None:
    """Write the arrays beside `path` and rename, so that a half-written file is never seen."""
    staging = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with staging.open("wb") as file:
            np.savez(file, **arrays)  # type: ignore[arg-type]  # stub reads ** as allow_pickle too
        staging.replace(path)
    finally:
        staging.unlink(missing_ok=True)


def _load_all() -> Samples:
    raw = load_digits()
    pixels, labels = np.asarray(raw.images), np.asarray(raw.target, dtype=np.int64)
    if pixels.shape != (1797, 8, 8) or pixels.min() != 0 or pixels.max() != PIXEL_MAX:
        raise UnexpectedDatasetError(
            f"expected 1797 scans of 8 x 8 pixels in 0..16, got shape {pixels.shape} "
            f"in {pixels.min()}..{pixels.max()}; reinstall scikit-learn"
        )
    image = (pixels / PIXEL_MAX).astype(np.float32)[:, np.newaxis, :, :]
    return Samples(image, labels, np.arange(len(labels), dtype=np.int64))


def _cut(samples: Samples, seed: int) -> tuple[NDArray[np.int64], ...]:
    """Indices of train, calibration, evaluation, live; each sorted, equal counts a class.

    The order inside a class comes from a digest of seed and scan, not from a random generator:
    numpy does not promise that `Generator` yields the same stream in its next version.
    """
    bounds = np.cumsum([CALIBRATION_PER_CLASS, EVALUATION_PER_CLASS, LIVE_PER_CLASS])
    parts: list[list[NDArray[np.int64]]] = [[], [], [], []]
    for label in range(CLASSES):
        members = samples.index[samples.labels == label]
        shuffled = np.array(sorted(members, key=lambda i: _rank(samples.image[i], seed)))
        for part, chosen in zip(parts, np.split(shuffled, bounds), strict=True):
            part.append(chosen)
    calibration, evaluation, live, train = (np.sort(np.concatenate(part)) for part in parts)
    return train, calibration, evaluation, live


def _rank(image: NDArray[np.float32], seed: int) -> bytes:
    return hashlib.sha256(f"{seed}:".encode() + image.tobytes()).digest()


def _take(samples: Samples, index: NDArray[np.int64]) -> Samples:
    return Samples(samples.image[index], samples.labels[index], index)


if __name__ == "__main__":
    for written in write_conversion_inputs(Path(sys.argv[1] if len(sys.argv) > 1 else ".")):
        print(written)
