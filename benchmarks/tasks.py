"""The models and samples that the converter is measured on.

Keyword spotting (MLPerf Tiny) comes from the folder that OUTRIDER_KWS_DATA names, with
`float32.onnx` and `samples.npz`; it is left out where the variable is not set.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray

from benchmarks.depthwise import data as depthwise
from benchmarks.depthwise.spread import spread
from examples.digits.data import load_splits

ROOT = Path(__file__).resolve().parent
KWS_CALIBRATION = 100
KWS_SCALE, KWS_ZERO_POINT = np.float32(0.5847029089927673), 83


@dataclass(frozen=True)
class Task:
    """A float model as ONNX bytes, samples to calibrate on, and labelled samples to measure on.

    `unseen`: from where on the labelled samples are none of the calibration. `every`: which of
    them the conversion itself evaluates on, each n-th.
    """

    name: str
    model: bytes
    input_name: str
    output_name: str
    calibration: NDArray[np.float32]
    samples: NDArray[np.float32]
    labels: NDArray[np.int64]
    unseen: int = 0
    every: int = 1


def load_tasks() -> list[Task]:
    """All tasks whose data are here."""
    found = [keywords(), spread_depthwise(), digits()]
    return [task for task in found if task is not None]


def keywords() -> Task | None:
    """Twelve spoken words: 9 convolutions, 1,000 samples, the first 100 of them to calibrate on."""
    folder = os.environ.get("OUTRIDER_KWS_DATA")
    if folder is None:
        return None
    with np.load(Path(folder) / "samples.npz", allow_pickle=False) as file:
        features = (file["features_int8"].astype(np.float32) - KWS_ZERO_POINT) * KWS_SCALE
        labels = file["labels"]
    features = features[..., np.newaxis]
    model = (Path(folder) / "float32.onnx").read_bytes()
    first = features[:KWS_CALIBRATION]
    return Task("kws", model, "input_1", "dense", first, features, labels, KWS_CALIBRATION)


def spread_depthwise(calibration: int = 200) -> Task:
    """The depthwise-separable network, its channels spread by 1/16..16."""
    model = spread(onnx.load(ROOT / "depthwise" / "depthwise.onnx"))
    pictures = depthwise.evaluation()
    return Task(
        "depthwise, spread",
        model.SerializeToString(deterministic=True),
        depthwise.INPUT_NAME,
        depthwise.OUTPUT_NAME,
        depthwise.calibration(calibration).image,
        pictures.image,
        pictures.labels,
        every=depthwise.COPIES,
    )


def digits() -> Task:
    """The example's first model."""
    splits = load_splits()
    model = (ROOT.parent / "examples" / "digits" / "digits-1.onnx").read_bytes()
    evaluation = splits.evaluation
    return Task(
        "digits",
        model,
        "image",
        "probabilities",
        splits.calibration.image,
        evaluation.image,
        evaluation.labels,
    )
