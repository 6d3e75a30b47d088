"""ONNX becomes TFLite through onnx2tf: the answers, the layout, and the figures that we promise."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from onnx import helper, numpy_helper

from converter.canonical import canonicalise
from converter.compact import compact
from converter.convert import convert
from converter.frontends.onnx2tf import to_tflite
from converter.frontends.sources import SourceOptions
from converter.request import ConvertRequest
from converter.samples import Samples
from converter.sessions import Runner
from converter.source import SourceModel, read_source
from converter.tflite.int8 import make_tflite_int8
from converter.tflite.runner import TfliteRunner
from model.archive import open_bundle
from tests.converter import models

PYTHON = os.environ.get("OUTRIDER_ONNX2TF_PYTHON")
KWS = os.environ.get("OUTRIDER_KWS_DATA")
CALIBRATION = 100
OPTIONS = SourceOptions(onnx2tf_python=Path(str(PYTHON)))
pytestmark = [
    pytest.mark.skipif(PYTHON is None, reason="no OUTRIDER_ONNX2TF_PYTHON: make test-heavy"),
    pytest.mark.timeout(240),
]
needs_kws = pytest.mark.skipif(KWS is None, reason="OUTRIDER_KWS_DATA is not set")


def folded(source: SourceModel, work: Path) -> bytes:
    return compact(canonicalise(source, work))


def kws_samples() -> tuple[
    np.ndarray[tuple[int, ...], np.dtype[np.float32]],
    np.ndarray[tuple[int, ...], np.dtype[np.int64]],
]:
    with np.load(Path(str(KWS)) / "samples.npz", allow_pickle=False) as file:
        features = (file["features_int8"].astype(np.float32) - 83) * np.float32(0.5847029089927673)
        return features[..., np.newaxis], file["labels"]


def test_the_tflite_model_answers_like_the_onnx_model(tmp_path: Path) -> None:
    path = models.save(tmp_path / "in.onnx", models.classifier())
    source, before = read_source(path), path.read_bytes()
    samples = Samples("few", {models.INPUT: models.images(40)})
    made = to_tflite(source, folded(source, tmp_path), samples, OPTIONS)
    assert [(spec.name, spec.shape) for spec in made.inputs] == [(models.INPUT, [-1, 1, 8, 8])]
    (one,) = Runner(before).run(samples).values()
    (other,) = TfliteRunner(made.data).run(samples).values()
    assert np.abs(one - other).max() < 1e-4
    assert path.read_bytes() == before


def test_layers_without_a_bias_are_good_in_int8(tmp_path: Path) -> None:
    """onnx2tf makes BATCH_MATMUL of them."""
    drawn = np.random.default_rng(5)
    weights = {"w": drawn.normal(0, 0.3, (64, 32)), "v": drawn.normal(0, 0.3, (32, 10))}
    nodes = [
        helper.make_node("MatMul", ["row", "w"], ["h"]),
        helper.make_node("Relu", ["h"], ["r"]),
        helper.make_node("MatMul", ["r", "v"], ["y"]),
    ]
    model = models.model(
        nodes,
        [models.tensor("row", "N", 64)],
        [models.tensor("y", "N", 10)],
        [numpy_helper.from_array(a.astype(np.float32), name) for name, a in weights.items()],
    )
    source = read_source(models.save(tmp_path / "rows.onnx", model))
    samples = Samples("rows", {"row": drawn.normal(0, 1, (200, 64)).astype(np.float32)})
    made = to_tflite(source, folded(source, tmp_path), samples, OPTIONS)
    int8 = make_tflite_int8(made, samples, lambda share: None)
    assert (int8.audit.integer, int8.audit.floating) == (2, 0)
    assert max(score.sqnr_db for score in int8.scores) > 25


@needs_kws
def test_keyword_spotting_keeps_its_layout_and_is_as_good_and_small_as_promised(
    tmp_path: Path,
) -> None:
    source = read_source(Path(str(KWS)) / "float32.onnx")
    features, labels = kws_samples()
    samples = Samples("kws", {"input_1": features})
    made = to_tflite(source, folded(source, tmp_path), samples, OPTIONS)
    assert made.inputs[0].shape == [-1, 49, 10, 1]
    (answers,) = TfliteRunner(made.data).run(samples).values()
    assert (answers.argmax(axis=1) == labels).mean() >= 0.912
    calibration = samples.take(slice(0, CALIBRATION))
    int8 = make_tflite_int8(made, calibration, lambda share: None).data
    (integers,) = TfliteRunner(int8).run(samples).values()
    assert (integers.argmax(axis=1) == labels).mean() >= 0.910
    assert (integers.argmax(axis=1) == answers.argmax(axis=1)).mean() >= 0.985
    assert len(int8) <= 37_000


@needs_kws
def test_keyword_spotting_from_its_onnx_file_to_a_release_of_both_formats(tmp_path: Path) -> None:
    features, labels = kws_samples()
    np.savez(tmp_path / "calib.npz", input_1=features[:CALIBRATION])
    np.savez(tmp_path / "eval.npz", input_1=features[CALIBRATION:], labels=labels[CALIBRATION:])
    found = convert(
        ConvertRequest(
            model=Path(str(KWS)) / "float32.onnx",
            calib=tmp_path / "calib.npz",
            evaluation=tmp_path / "eval.npz",
            family="kws",
            version="1",
            output=tmp_path / "kws.bundle",
            onnx2tf_python=Path(str(PYTHON)),
        )
    )
    onnx, tflite = found.manifest.variants
    assert (onnx.name, tflite.name) == ("onnx-int8", "tflite-int8")
    assert tflite.evidence["accuracy"] >= 91.0
    assert tflite.evidence["agreement"] >= 98.5
    assert tflite.model.length <= 37_000
    with open_bundle(found.path) as bundle:
        bundle.check()
