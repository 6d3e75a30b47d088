"""8 x 8 images of five kinds, and what a small trained network on them is converted with."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from converter.request import ConvertRequest

CLASSES = 5
Images = NDArray[np.float32]


def images(count: int, seed: int) -> tuple[Images, NDArray[np.int64]]:
    """float32 [count, 8, 8] in 0..1 and their kinds."""
    rows, columns = np.mgrid[0:8, 0:8]
    plane = [rows % 2, columns % 2, rows % 4 // 2, columns % 4 // 2, (rows + columns) % 2]
    kinds = np.arange(count) % CLASSES
    noise = np.random.default_rng(seed).random((count, 8, 8))
    made = 0.6 * np.stack(plane)[kinds] + 0.4 * noise
    return made.astype(np.float32), kinds.astype(np.int64)


def request(model: Path, folder: Path, axis: int) -> ConvertRequest:
    """Convert `model`, whose input `image` has its channel at `axis`."""
    calib, evaluation = folder / "calib.npz", folder / "eval.npz"
    np.savez(calib, image=np.expand_dims(images(100, 1)[0], axis))
    shown, kinds = images(150, 2)
    np.savez(evaluation, image=np.expand_dims(shown, axis), labels=kinds)
    return ConvertRequest(
        model=model,
        calib=calib,
        evaluation=evaluation,
        family="kinds",
        version="1",
        output=folder / f"{model.name}.bundle",
    )
