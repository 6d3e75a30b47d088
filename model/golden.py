"""Golden samples: inputs and the outputs that *this* artifact gave to them when it was made.

A device that gets them again has the right file, a runtime that can run it, and kernels that
compute the same. They say nothing of whether the model is any good: the gate and probation do.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from contract.manifest import TensorSpec
from model.errors import MalformedGolden
from model.golden_file import GoldenSamples, decode_golden, encode_golden
from model.runtimes.session import Session
from model.tensors import Array, real_values

__all__ = [
    "GoldenResult",
    "GoldenSamples",
    "decode_golden",
    "encode_golden",
    "require_fit",
    "run_golden",
    "sample_of",
]


@dataclass(frozen=True)
class GoldenResult:
    """What a run gave. `reason` says in words why it did not pass; empty when it did."""

    samples: int
    agreement: float
    max_error: float
    latencies_ms: list[float]
    passed: bool
    reason: str

    @property
    def p50_ms(self) -> float:
        """Median latency of one call."""
        return float(np.percentile(self.latencies_ms, 50))

    @property
    def p95_ms(self) -> float:
        """95th percentile of the latency of one call."""
        return float(np.percentile(self.latencies_ms, 95))


def run_golden(
    session: Session, golden: GoldenSamples, clock_ns: Callable[[], int] = time.perf_counter_ns
) -> GoldenResult:
    """Run every sample, one call each after one call to warm up, and compare.

    A sample agrees when every output does: outputs of shape [batch, classes] by their top class,
    all others by staying within the tolerance. The run passes when enough samples agree and no
    value is further off than the tolerance, or not finite. Raises `MalformedGolden` when the
    samples do not fit the session, `InferenceFailed` when it fails.
    """
    require_fit(session, golden)
    session.infer(sample_of(session.inputs, golden.inputs, 0))
    agreed, worst, latencies = 0, 0.0, []
    for index in range(golden.samples):
        feed = sample_of(session.inputs, golden.inputs, index)
        started = clock_ns()
        answer = session.infer(feed)
        latencies.append((clock_ns() - started) / 1e6)
        expected = sample_of(session.outputs, golden.outputs, index)
        agrees, error = _compare(session.outputs, expected, answer, golden.tolerance_abs)
        agreed += agrees
        worst = max(worst, error)
    return _judged(golden, agreed / golden.samples, worst, latencies)


def _judged(
    golden: GoldenSamples, agreement: float, worst: float, latencies: list[float]
) -> GoldenResult:
    reason = ""
    if worst == float("inf"):
        reason = "an output is not finite, or has another shape than it had when it was made"
    elif agreement < golden.min_agreement:
        reason = f"{agreement:.1%} of the golden samples agree; at least {golden.min_agreement:.1%}"
    elif worst > golden.tolerance_abs:
        reason = f"largest error {worst:.6g}; at most {golden.tolerance_abs:.6g}"
    return GoldenResult(golden.samples, agreement, worst, latencies, not reason, reason)


def require_fit(session: Session, golden: GoldenSamples) -> None:
    """Raise `MalformedGolden` unless the samples have the session's tensors."""
    pairs = ((session.inputs, golden.inputs), (session.outputs, golden.outputs))
    for specs, arrays in pairs:
        names = sorted(spec.name for spec in specs)
        if names != sorted(arrays):
            raise MalformedGolden(f"golden samples hold {sorted(arrays)}; the model has {names}")
        for spec in specs:
            if arrays[spec.name].dtype.name != spec.dtype:
                raise MalformedGolden(f"golden samples of {spec.name} are not {spec.dtype}")


def sample_of(specs: list[TensorSpec], arrays: dict[str, Array], index: int) -> dict[str, Array]:
    """One call's tensors: a row where the array has the model's rank, else a whole tensor."""
    return {
        spec.name: arrays[spec.name][index : index + 1]
        if arrays[spec.name].ndim == len(spec.shape)
        else arrays[spec.name][index]
        for spec in specs
    }


def _compare(
    specs: list[TensorSpec], expected: dict[str, Array], answer: dict[str, Array], tolerance: float
) -> tuple[bool, float]:
    agrees, worst = True, 0.0
    for spec in specs:
        want, have = real_values(spec, expected[spec.name]), real_values(spec, answer[spec.name])
        if want.shape != have.shape or not np.isfinite(have).all():
            return False, float("inf")
        # A NaN that was expected would pass every comparison below.
        if not np.isfinite(want).all():
            return False, float("inf")
        error = float(np.abs(want - have).max(initial=0.0))
        worst = max(worst, error)
        if want.ndim == 2 and want.shape[1] >= 2:
            agrees &= bool((want.argmax(axis=1) == have.argmax(axis=1)).all())
        else:
            agrees &= error <= tolerance
    return agrees, worst
