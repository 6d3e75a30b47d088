"""How long one sample takes, int8 against float32, measured alternately in one run.

The machine's mood (frequency, neighbours) then falls on both alike. Latency is of this machine and
this moment, so it is reported and never enters the bundle: the same input gives the same bytes.
"""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from converter.engine import Engine
from converter.page import Timing
from converter.samples import Samples
from model.runtimes import installed_runtimes

WARM_UP = 10
ROUNDS = 200
BUDGET_S = 2.0


@dataclass(frozen=True)
class Latency:
    """Medians in milliseconds, batch of one, one thread."""

    p50_ms: float
    p50_ms_float32: float
    rounds: int


def measure_latency(int8: Engine, float32: Engine, samples: Samples) -> Latency:
    """Run both by turns, over different samples, until `ROUNDS` or `BUDGET_S` are used up."""
    inputs = list(samples.take(slice(0, 32)).batches(1))
    for i in range(WARM_UP):
        int8.run_once(inputs[i % len(inputs)])
        float32.run_once(inputs[i % len(inputs)])
    ours: list[float] = []
    theirs: list[float] = []
    end = time.perf_counter() + BUDGET_S
    while len(ours) < ROUNDS and (not ours or time.perf_counter() < end):
        sample = inputs[len(ours) % len(inputs)]
        ours.append(_time_ms(int8, sample))
        theirs.append(_time_ms(float32, sample))
    return Latency(_median(ours), _median(theirs), len(ours))


def timing(latency: Latency, variants: Sequence[str]) -> Timing:
    """The same figures for the report that is written beside the bundle, with the host's name.

    `variants` in the manifest's order: the first of int8 is the one that was timed, or the only one
    of a release without.
    """
    timed = next((name for name in variants if name.endswith("-int8")), variants[0])
    runtimes = ", ".join(f"{name} {version}" for name, version in installed_runtimes().items())
    host = f"{platform.machine()}, {os.cpu_count()} CPUs, {runtimes}"
    return Timing(host, (("float32", latency.p50_ms_float32), (timed, latency.p50_ms)))


def _time_ms(runner: Engine, sample: dict[str, NDArray[Any]]) -> float:
    start = time.perf_counter_ns()
    runner.run_once(sample)
    return (time.perf_counter_ns() - start) / 1e6


def _median(values: list[float]) -> float:
    return round(float(np.median(values)), 4)
