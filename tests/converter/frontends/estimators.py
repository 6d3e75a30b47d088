"""scikit-learn models trained here on its own digits, seeded, dumped as users dump them."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import joblib
import numpy as np
from numpy.typing import NDArray
from sklearn.datasets import load_digits
from sklearn.ensemble import (
    BaggingClassifier,
    GradientBoostingClassifier,
    HistGradientBoostingClassifier,
    RandomForestClassifier,
    RandomForestRegressor,
)
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler, StandardScaler

TRAINING, CALIBRATION = 900, 1200
Array = NDArray[Any]


@cache
def scans() -> tuple[Array, Array]:
    """float32 [1797, 64] and classes, shuffled once: training, calibration, evaluation in turn."""
    images, classes = load_digits(return_X_y=True)
    order = np.random.default_rng(4).permutation(len(images))
    return images[order].astype(np.float32), classes[order]


@cache
def fitted(kind: str) -> Any:
    """The estimator of that name, fitted on the training scans."""
    images, classes = (part[:TRAINING] for part in scans())
    wanted = classes > 4 if kind == "binary" else classes
    return _MADE[kind]().fit(images, wanted)


def dump(folder: Path, kind: str) -> Path:
    """The fitted estimator as a .joblib file."""
    path = folder / f"{kind}.joblib"
    joblib.dump(fitted(kind), path)
    return path


def samples(folder: Path) -> tuple[Path, Path]:
    """Calibration and evaluation files for these models."""
    images, classes = scans()
    calib, evaluation = folder / "calib.npz", folder / "eval.npz"
    np.savez(calib, input=images[TRAINING:CALIBRATION])
    np.savez(evaluation, input=images[CALIBRATION:], labels=classes[CALIBRATION:])
    return calib, evaluation


_MADE: dict[str, Any] = {
    "logistic": lambda: make_pipeline(StandardScaler(), LogisticRegression(max_iter=300)),
    "binary": lambda: LogisticRegression(max_iter=300),
    "mlp": lambda: make_pipeline(MinMaxScaler(), MLPClassifier((32,), max_iter=60, random_state=1)),
    "ridge": Ridge,
    "forest": lambda: RandomForestClassifier(60, random_state=1),
    "regression-forest": lambda: RandomForestRegressor(20, random_state=1),
    "boosting": lambda: GradientBoostingClassifier(n_estimators=10, random_state=1),
    "histogram-boosting": lambda: HistGradientBoostingClassifier(max_iter=10, random_state=1),
    "bagging": lambda: BaggingClassifier(n_estimators=3, random_state=1),
}
