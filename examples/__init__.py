"""Worked examples on real data. Of the product, only the demo reads from here."""

from __future__ import annotations

from model.telemetry import keep_runtimes_silent

# Before an example imports onnxruntime.
keep_runtimes_silent()
