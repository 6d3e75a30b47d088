"""How long one sample takes, int8 against float32, measured alternately in one run.

The machine's mood (frequency, neighbours) then falls on both alike. Latency is of this machine and
this moment: a second run finds other figures, so `converter.stopwatch` decides when there is one.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from converter.engine import Engine
from converter.samples import Samples

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


def _time_ms(runner: Engine, sample: dict[str, NDArray[Any]]) -> float:
    start = time.perf_counter_ns()
    runner.run_once(sample)
    return (time.perf_counter_ns() - start) / 1e6


def _median(values: list[float]) -> float:
    # Rounded to what a clock tells; above 0, so that a ratio can be told of any two.
    return max(round(float(np.median(values)), 4), 0.0001)
