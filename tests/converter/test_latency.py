"""Latency is measured by turns, as often on both sides, on tensors that need no conversion."""

from __future__ import annotations

import time
from typing import Any

import pytest

from contract.manifest import Quantisation
from converter import answers, integers, latency
from converter.convert import convert
from converter.integers import IntegerRunner
from converter.latency import measure_latency
from converter.samples import Samples, read_samples
from converter.sessions import Runner
from converter.source import read_source
from converter.tflite import runner as tflite_runner
from converter.tflite.int8 import make_tflite_int8
from converter.tflite.runner import TfliteRunner
from converter.tflite.source import check_tflite
from model import tensors
from model.archive import open_bundle
from tests.converter import models
from tests.converter.conftest import Inputs
from tests.converter.tflite import models as tflite_models


def test_both_models_are_timed_as_often(small: Inputs) -> None:
    source = read_source(small.model)
    runner = Runner(source.data, source.batch)
    found = measure_latency(runner, runner, read_samples(small.calib, source.inputs))
    assert found.rounds > 0
    assert found.p50_ms > 0
    assert found.p50_ms_float32 > 0
    assert found.p50_ms == round(found.p50_ms, 4)


def test_a_clock_that_stands_still_leaves_a_ratio_to_tell(
    small: Inputs, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = read_source(small.model)
    runner = Runner(source.data, source.batch)
    samples = read_samples(small.calib, source.inputs)
    monkeypatch.setattr(time, "perf_counter_ns", lambda: 0)
    found = measure_latency(runner, runner, samples)
    assert found.p50_ms == found.p50_ms_float32 == 0.0001


class Session:
    """A runtime's own session or interpreter, and the types that it was fed."""

    def __init__(self, runner: Any, attribute: str, call: str, types: list[str]) -> None:
        self._own = getattr(runner, attribute)
        self._call, self._types = call, types
        setattr(runner, attribute, self)

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._own, name)
        if name != self._call:
            return found

        def noted(first: Any, second: Any) -> Any:
            fed = second.values() if isinstance(second, dict) else [second]
            self._types.extend(array.dtype.name for array in fed)
            return found(first, second)

        return noted


def watch_conversions(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Whether the clock was running, for each conversion between floats and integers."""
    running, seen = [False], []

    def clock() -> int:
        running[0] = not running[0]
        return 0

    def watched(convert: Any) -> Any:
        def noted(*given: Any) -> Any:
            seen.append(running[0])
            return convert(*given)

        return noted

    monkeypatch.setattr(time, "perf_counter_ns", clock)
    for place in (integers, tflite_runner):
        monkeypatch.setattr(place, "checked_inputs", watched(tensors.checked_inputs))
    monkeypatch.setattr(integers, "real", watched(answers.real))
    return seen


def test_an_onnx_model_with_integer_inputs_is_timed_on_integers(
    small: Inputs, monkeypatch: pytest.MonkeyPatch
) -> None:
    (variant,) = convert(small.request(integer_io=True)).manifest.variants
    with open_bundle(small.folder / "out.bundle") as bundle:
        data = bundle.read(variant.model)
    source = read_source(small.model)
    specs = (*variant.inputs, *variant.outputs)
    meaning: dict[str, Quantisation] = {s.name: s.quantisation for s in specs if s.quantisation}
    int8 = IntegerRunner(data, source.inputs, meaning, source.batch)
    float32 = Runner(source.data, source.batch)
    ours: list[str] = []
    theirs: list[str] = []
    Session(int8._runner, "_session", "run", ours)
    Session(float32, "_session", "run", theirs)
    seen = watch_conversions(monkeypatch)
    found = measure_latency(int8, float32, Samples("e", {"image": models.images(8, seed=3)}))
    calls = latency.WARM_UP + found.rounds
    assert (ours, theirs) == (["uint8"] * calls, ["float32"] * calls)
    assert seen == [False] * 8


def test_a_tflite_model_with_integer_inputs_is_timed_on_integers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    source = check_tflite(tflite_models.classifier(), "digits.tflite")
    samples = tflite_models.calibration().take(slice(0, 8))
    made = make_tflite_int8(source, samples, lambda share: None, integer_io=True, searching=False)
    int8, float32 = TfliteRunner(made.data), TfliteRunner(source.data)
    ours: list[str] = []
    Session(int8, "_interpreter", "set_tensor", ours)
    seen = watch_conversions(monkeypatch)
    found = measure_latency(int8, float32, samples)
    assert ours == ["int8"] * (latency.WARM_UP + found.rounds)
    assert seen == [False] * 16
