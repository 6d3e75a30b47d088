"""Latency is measured by turns, told with its host, and bound to the variant that was timed."""

from __future__ import annotations

import platform

import pytest

from converter.latency import Latency, measure_latency, timing
from converter.samples import read_samples
from converter.sessions import Runner
from converter.source import read_source
from tests.converter.conftest import Inputs

MEASURED = Latency(p50_ms=0.05, p50_ms_float32=0.2, rounds=10)


@pytest.mark.parametrize(
    ("variants", "timed"),
    [
        (["onnx-int8"], "onnx-int8"),
        (["onnx-fp16", "onnx-int8", "tflite-int8", "onnx-fp32"], "onnx-int8"),
        (["tflite-int8"], "tflite-int8"),
        (["onnx-fp32"], "onnx-fp32"),
    ],
)
def test_the_figures_are_of_the_variant_that_was_timed(variants: list[str], timed: str) -> None:
    found = timing(MEASURED, variants)
    assert found.p50_ms == (("float32", 0.2), (timed, 0.05))
    assert found.host.startswith(platform.machine())
    assert "onnxruntime" in found.host


def test_both_models_are_timed_as_often(small: Inputs) -> None:
    source = read_source(small.model)
    runner = Runner(source.data, source.batch)
    found = measure_latency(runner, runner, read_samples(small.calib, source.inputs))
    assert found.rounds > 0
    assert found.p50_ms > 0
    assert found.p50_ms_float32 > 0
