"""The error of each layer of an int8 .tflite, named as the exporter named it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from converter.tflite.int8 import CANDIDATES, make_candidate
from converter.tflite.layers import layer_errors
from converter.tflite.source import TfliteModel, check_tflite
from tests.converter.tflite import models


@pytest.fixture(scope="module")
def source() -> TfliteModel:
    return check_tflite(models.classifier(), "digits.tflite")


def int8(source: TfliteModel, *, integer_io: bool = False) -> bytes:
    calibration = models.calibration().take(slice(0, 100))
    return make_candidate(
        source, calibration, CANDIDATES[0], lambda share: None, integer_io=integer_io
    )


@pytest.mark.parametrize("integer_io", [False, True])
def test_every_layer_is_near_to_its_float_twin(source: TfliteModel, integer_io: bool) -> None:
    data = int8(source, integer_io=integer_io)
    found = layer_errors(source, data, models.evaluation())
    assert [(layer.name, layer.op) for layer in found] == [
        ("plane", "CONV_2D"),
        ("dense", "FULLY_CONNECTED"),
    ]
    assert all(layer.integer for layer in found)
    assert all(20 < layer.sqnr_db < 60 for layer in found)


def test_a_model_beside_itself_has_no_error(source: TfliteModel) -> None:
    found = layer_errors(source, source.data, models.evaluation())
    assert [layer.sqnr_db for layer in found] == [120.0, 120.0]
    assert not any(layer.integer for layer in found)


def test_the_spoiled_layer_is_told_from_the_others(source: TfliteModel) -> None:
    def spoil(model: Any) -> None:
        tensors = model.subgraphs[0].tensors
        dense = next(t for t in tensors if t.buffer and list(t.shape) == [10, 256])
        buffer = model.buffers[dense.buffer]
        buffer.data = np.asarray(buffer.data)[::-1].copy()

    bad = models.changed(int8(source), spoil)
    conv, dense = layer_errors(source, bad, models.evaluation())
    assert conv.sqnr_db > 20 > 5 > dense.sqnr_db


def test_models_that_do_not_line_up_say_nothing(source: TfliteModel) -> None:
    graph = models.Graph()
    x, y = graph.tensor("image", [-1, 8, 8, 1]), graph.tensor("y", [-1, 8, 8, 1])
    graph.operator(models.B.LOGISTIC, [x], y)
    assert layer_errors(source, graph.bytes([x], [y]), models.evaluation()) == []
