"""Each bad input ends a .tflite conversion with a named error, and nothing is written."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

from converter import errors
from converter.convert import convert
from converter.request import ConvertRequest
from tests.converter import models as onnx_models
from tests.converter.conftest import Inputs
from tests.converter.tflite import models

Array = models.Array


def request(
    folder: Path, calib: Array, model: bytes | None = None, **changes: Any
) -> ConvertRequest:
    images, labels = models.digits()
    inputs = Inputs(
        models.save(folder / "net.tflite", models.classifier() if model is None else model),
        onnx_models.save_samples(folder / "calib.npz", image=calib),
        onnx_models.save_samples(folder / "eval.npz", image=images[1200:], labels=labels[1200:]),
        folder,
    )
    return inputs.request(**changes)


def good() -> Array:
    found: Array = models.digits()[0][:100].copy()
    return found


def refused(asked: ConvertRequest, kind: type[errors.ConvertError], words: str) -> None:
    before = set(asked.output.parent.iterdir())
    with pytest.raises(kind, match=words) as caught:
        convert(asked)
    assert "\n" not in str(caught.value)
    assert set(asked.output.parent.iterdir()) == before


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_calibration_that_is_not_finite(tmp_path: Path, bad: float) -> None:
    images = good()
    images[7, 3, 3] = bad
    refused(request(tmp_path, images), errors.NonFiniteSamples, "sample 7")


def test_a_lone_huge_outlier(tmp_path: Path) -> None:
    images = good()
    images[42, 0, 0] = 1e6
    refused(request(tmp_path, images), errors.CalibrationOutlier, r"sample 42 .* 1e\+06")


@pytest.mark.parametrize("scale", [1 / 255, 16.0])
def test_calibration_of_another_scale(tmp_path: Path, scale: float) -> None:
    images = (good() * np.float32(scale)).astype(np.float32)
    refused(request(tmp_path, images), errors.CalibrationMismatch, r"calib\.npz: 'image'")


def test_noise_instead_of_data(tmp_path: Path) -> None:
    noise = np.random.default_rng(1).normal(0, 3, (100, 8, 8, 1)).astype(np.float32)
    refused(request(tmp_path, noise), errors.Objection, "calib")


def test_no_samples(tmp_path: Path) -> None:
    refused(request(tmp_path, good()[:0]), errors.NoSamples, "no samples")


def test_too_few_samples_for_both_uses(tmp_path: Path) -> None:
    refused(request(tmp_path, good()[:3], evaluation=None), errors.NoSamples, "3 samples")


def test_the_wrong_layout(tmp_path: Path) -> None:
    images = good().transpose(0, 3, 1, 2)
    refused(request(tmp_path, images), errors.WrongShape, r"\[N, 8, 8, 1\]")


def test_the_wrong_type(tmp_path: Path) -> None:
    images = np.rint(good() * 16).astype(np.int64)
    refused(request(tmp_path, images), errors.WrongType, "int64")


def test_samples_of_one_value(tmp_path: Path) -> None:
    refused(request(tmp_path, np.zeros_like(good())), errors.ConstantSamples, "every value")


def test_an_int8_model(tmp_path: Path) -> None:
    folder = tmp_path / "first"
    folder.mkdir()
    made = convert(request(folder, good(), max_drop=5.0))
    from model.archive import open_bundle

    with open_bundle(made.path) as bundle:
        data = bundle.read(bundle.manifest.variants[0].model)
    other = tmp_path / "second"
    other.mkdir()
    refused(request(other, good(), data), errors.AlreadyQuantised, r"net\.tflite")


def test_a_custom_operator(tmp_path: Path) -> None:
    def spoil(model: Any) -> None:
        code = model.operatorCodes[3]
        code.builtinCode, code.deprecatedBuiltinCode, code.customCode = 32, 32, b"FlexErf"

    data = models.changed(models.classifier(), spoil)
    refused(request(tmp_path, good(), data), errors.UnsupportedOperator, r"net\.tflite")


def test_weights_that_are_not_finite(tmp_path: Path) -> None:
    def spoil(model: Any) -> None:
        weights = np.frombuffer(bytes(model.buffers[1].data), np.float32).copy()
        weights[0] = np.nan
        model.buffers[1].data = np.frombuffer(weights.tobytes(), np.uint8)

    data = models.changed(models.classifier(), spoil)
    refused(request(tmp_path, good(), data), errors.NonFiniteWeights, r"net\.tflite: weight")


def test_a_truncated_file(tmp_path: Path) -> None:
    data = models.classifier()[:5000]
    refused(request(tmp_path, good(), data), errors.ConvertError, r"net\.tflite")


def test_a_model_without_layers(tmp_path: Path) -> None:
    graph = models.Graph()
    x, y = graph.tensor("image", [-1, 8, 8, 1]), graph.tensor("y", [-1, 8, 8, 1])
    graph.operator(schema.BuiltinOperator.LOGISTIC, [x], y)
    asked = request(tmp_path, good(), graph.bytes([x], [y]))
    refused(asked, errors.NothingToQuantise, r"net\.tflite")


def test_a_gate_that_fails_can_be_forced_and_is_recorded(tmp_path: Path) -> None:
    images = good()
    images[42, 0, 0] = 1e6
    made = convert(request(tmp_path, images, force=True, max_drop=100.0))
    assert made.manifest.gate.forced
    assert "CalibrationOutlier" in made.manifest.gate.reason
