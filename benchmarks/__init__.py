"""Measurements that docs/benchmarks.md quotes: each prints its figures beside the raw tool's."""

from __future__ import annotations

from model.telemetry import keep_runtimes_silent

# Before any benchmark imports onnxruntime.
keep_runtimes_silent()
