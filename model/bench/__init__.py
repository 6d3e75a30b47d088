"""What a release costs on this machine: time, memory, and whether its answers are still its own."""

from __future__ import annotations

from model.bench.bundle import VariantBench, bench_bundle
from model.bench.measure import Measured, Memory
from model.bench.spread import Spread, spread_of

__all__ = ["Measured", "Memory", "Spread", "VariantBench", "bench_bundle", "spread_of"]
