"""Noisy pictures of digits, 24 x 24, made from the digits example's scans. Seeded; numpy only."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from examples.digits.data import Samples, load_splits

SIZE = 24
SCALE = 3
NOISE = 0.45
COPIES = 4
"""Of each scan to evaluate on."""
INPUT_NAME, OUTPUT_NAME = "image", "probabilities"


@dataclass(frozen=True)
class Pictures:
    """`image` float32 [N,1,24,24] and `labels` int64 [N]."""

    image: NDArray[np.float32]
    labels: NDArray[np.int64]


def draw(scans: Samples, copies: int, seed: int) -> Pictures:
    """Each scan `copies` times: three times as large, shifted, under noise."""
    random = np.random.RandomState(seed)  # frozen by numpy: the same stream in each version
    large = np.kron(scans.image, np.ones((1, 1, SCALE, SCALE), np.float32))
    image = np.repeat(large, copies, axis=0)
    for i, (down, right) in enumerate(random.randint(-2, 3, size=(len(image), 2))):
        image[i, 0] = np.roll(image[i, 0], (down, right), axis=(0, 1))
    noise = np.asarray(random.standard_normal(image.shape), dtype=np.float32)
    return Pictures(image + np.float32(NOISE) * noise, np.repeat(scans.labels, copies))


def calibration(count: int = 200) -> Pictures:
    """Pictures of the calibration scans; without end, the noise differs."""
    scans = load_splits().calibration
    pictures = draw(scans, -(-count // len(scans)), seed=11)
    order = np.random.RandomState(12).permutation(len(pictures.labels))[:count]
    return Pictures(pictures.image[order], pictures.labels[order])


def evaluation() -> Pictures:
    """2,400 pictures of scans that neither training nor calibration has seen."""
    splits = load_splits()
    parts = [draw(splits.evaluation, COPIES, seed=21), draw(splits.live, COPIES, seed=22)]
    return Pictures(
        np.concatenate([part.image for part in parts]),
        np.concatenate([part.labels for part in parts]),
    )
