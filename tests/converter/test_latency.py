"""Latency is measured by turns, as often on both sides, and is above 0 whatever the clock tells."""

from __future__ import annotations

import time

import pytest

from converter.latency import measure_latency
from converter.samples import read_samples
from converter.sessions import Runner
from converter.source import read_source
from tests.converter.conftest import Inputs


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
