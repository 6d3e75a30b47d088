"""How long one sample takes, int8 against float32, measured alternately in one run.

The machine's mood (frequency, neighbours) then falls on both alike. Timed is the session on tensors
of its own types, made beforehand: the conversion of floats is the converter's work, and no part of
the model. Latency is of this machine and this moment: a second run finds other figures, so
`converter.stopwatch` decides when there is one.
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
    fed = [(int8.fed(sample), float32.fed(sample)) for sample in inputs]
    for i in range(WARM_UP):
        mine, other = fed[i % len(fed)]
        int8.call(mine)
        float32.call(other)
    ours: list[float] = []
    theirs: list[float] = []
    end = time.perf_counter() + BUDGET_S
    while len(ours) < ROUNDS and (not ours or time.perf_counter() < end):
        mine, other = fed[len(ours) % len(fed)]
        ours.append(_time_ms(int8, mine))
        theirs.append(_time_ms(float32, other))
    return Latency(_median(ours), _median(theirs), len(ours))


def _time_ms(runner: Engine, fed: dict[str, NDArray[Any]]) -> float:
    start = time.perf_counter_ns()
    runner.call(fed)
    return (time.perf_counter_ns() - start) / 1e6


def _median(values: list[float]) -> float:
    # Rounded to what a clock tells; above 0, so that a ratio can be told of any two.
    return max(round(float(np.median(values)), 4), 0.0001)
