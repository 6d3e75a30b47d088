"""Measures one installed variant, in the process that it is called in, which is a child of its own.

Owns the order: what is resident before the model, the load, the first call, the warm-up, the timed
calls, the golden samples. Memory is this process's, as the kernel counts it, so nothing else may
have run in it before.
"""

from __future__ import annotations

import time
from pathlib import Path

import msgspec

from model.bench.spread import Spread, spread_of
from model.golden import GoldenSamples, require_fit, run_golden, sample_of
from model.installed import open_installed
from model.runtimes import Session, open_session, preload_runtime
from model.tensors import Array

WARM_UP_RUNS = 20
BUDGET_S = 60.0
"""Timed calls stop here, however many were asked for."""
_STATUS = Path("/proc/self/status")


class Memory(msgspec.Struct, frozen=True, kw_only=True):
    """Resident bytes of the measuring process."""

    runtime: int
    """What importing the runtime added to a bare interpreter with numpy."""
    model: int
    """What loading the model added to that."""
    peak: int
    """The most at any moment, over what was resident before the model was loaded."""
    process: int
    """The most at any moment, in all."""


class Measured(msgspec.Struct, frozen=True, kw_only=True):
    """What one variant costs here. Latencies are of the runtime's call on one golden sample."""

    threads: int
    load_ms: float
    first_ms: float
    """The first call, which allocates what later ones reuse."""
    warm_up_runs: int
    latency: Spread
    memory: Memory
    samples: int
    agreement: float
    """Share of the golden samples whose answers are still the artifact's own, 0..1."""
    max_error: float
    """Largest error of any output value; -1 when one was not finite."""
    passed: bool
    reason: str = ""


def measure(
    directory: Path, variant: str, digest: str, runs: int, threads: int, budget_s: float = BUDGET_S
) -> Measured:
    """Measure an installed variant (see model.installed for the layout).

    Raises `ModelError`, `ContractError`, and `OSError` when the disk fails.
    """
    installed = open_installed(directory, variant, digest)
    bare = _resident("VmRSS")
    preload_runtime(installed.variant)
    before = _resident("VmRSS")
    started = time.perf_counter_ns()
    session = open_session(installed.variant, installed.model_path, threads)
    try:
        load_ms = (time.perf_counter_ns() - started) / 1e6
        loaded = _resident("VmRSS")
        require_fit(session, installed.golden)
        feeds = _feeds(session, installed.golden)
        first_ms, latencies = _timed(session, feeds, runs, budget_s)
        golden = run_golden(session, installed.golden)
    finally:
        session.close()
    peak = _resident("VmHWM")
    return Measured(
        threads=threads,
        load_ms=load_ms,
        first_ms=first_ms,
        warm_up_runs=WARM_UP_RUNS,
        latency=spread_of(latencies),
        memory=Memory(
            runtime=max(0, before - bare),
            model=max(0, loaded - before),
            peak=max(0, peak - before),
            process=peak,
        ),
        samples=golden.samples,
        agreement=golden.agreement,
        max_error=golden.max_error if golden.max_error != float("inf") else -1.0,
        passed=golden.passed,
        reason=golden.reason,
    )


def _feeds(session: Session, golden: GoldenSamples) -> list[dict[str, Array]]:
    # Another golden sample for each call: a real stream does not repeat itself either.
    return [sample_of(session.inputs, golden.inputs, i) for i in range(golden.samples)]


def _timed(
    session: Session, feeds: list[dict[str, Array]], runs: int, budget_s: float
) -> tuple[float, list[float]]:
    """The first call, then the timed ones; the warm-up between them is in neither."""
    first = _call_ms(session, feeds[0])
    for i in range(WARM_UP_RUNS):
        session.infer(feeds[i % len(feeds)])
    latencies: list[float] = []
    end = time.perf_counter() + budget_s
    while len(latencies) < runs and (not latencies or time.perf_counter() < end):
        latencies.append(_call_ms(session, feeds[len(latencies) % len(feeds)]))
    return first, latencies


def _call_ms(session: Session, feed: dict[str, Array]) -> float:
    started = time.perf_counter_ns()
    session.infer(feed)
    return (time.perf_counter_ns() - started) / 1e6


def _resident(field: str) -> int:
    """VmRSS (now) or VmHWM (the most so far) in bytes; proc(5).

    Not getrusage: its maximum is inherited from the parent at exec.
    """
    for line in _STATUS.read_text().splitlines():
        name, _, value = line.partition(":")
        if name == field:
            return int(value.split()[0]) * 1024
    return 0
