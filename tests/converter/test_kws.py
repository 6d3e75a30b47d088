"""Keyword spotting, a real network of 9 convolutions: runs where its files are given.

OUTRIDER_KWS_DATA names a folder with `float32.onnx` and `samples.npz` (`features_int8` int8
[1000,49,10], `labels`), the MLPerf Tiny task and the test samples of its energy runner.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from converter.convert import Converted, convert
from converter.samples import Samples
from converter.sessions import Runner
from model.archive import open_bundle
from tests.converter import models
from tests.converter.conftest import Inputs

FOLDER = os.environ.get("OUTRIDER_KWS_DATA")
CALIBRATION = 100
SCALE, ZERO_POINT = np.float32(0.5847029089927673), 83

pytestmark = pytest.mark.skipif(FOLDER is None, reason="OUTRIDER_KWS_DATA is not set")


def load() -> tuple[models.Array, models.Array]:
    with np.load(Path(str(FOLDER)) / "samples.npz", allow_pickle=False) as file:
        features = (file["features_int8"].astype(np.float32) - ZERO_POINT) * SCALE
        return features[..., np.newaxis], file["labels"]


@pytest.fixture(scope="module")
def keywords(tmp_path_factory: pytest.TempPathFactory) -> Converted:
    folder = tmp_path_factory.mktemp("kws")
    features, labels = load()
    inputs = Inputs(
        Path(str(FOLDER)) / "float32.onnx",
        models.save_samples(folder / "calib.npz", input_1=features[:CALIBRATION]),
        models.save_samples(
            folder / "eval.npz", input_1=features[CALIBRATION:], labels=labels[CALIBRATION:]
        ),
        folder,
    )
    return convert(inputs.request(family="kws"))


def test_accuracy_over_all_samples(keywords: Converted) -> None:
    features, labels = load()
    with open_bundle(keywords.path) as bundle:
        model = bundle.read(bundle.manifest.variants[0].model)
    (answers,) = Runner(model).run(Samples("kws", {"input_1": features})).values()
    assert 100 * float((answers.argmax(axis=1) == labels).mean()) >= 91.2


def test_accuracy_over_samples_that_calibration_has_not_seen(keywords: Converted) -> None:
    figures = keywords.report.figures
    assert figures.accuracy is not None
    assert figures.accuracy_float32 is not None
    assert figures.accuracy >= figures.accuracy_float32 - 0.5
    assert figures.agreement >= 99.3
    assert figures.sqnr_db >= 31


def test_size(keywords: Converted) -> None:
    assert keywords.report.figures.bytes <= 34_657


def test_every_layer_runs_in_integers(keywords: Converted) -> None:
    quantiser = keywords.report.quantiser
    assert (quantiser.integer_layers, quantiser.float_layers) == (10, 0)
