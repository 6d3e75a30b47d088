"""The workstation: a trained model goes in, a measured, signed bundle comes out."""

from __future__ import annotations

from model.telemetry import keep_runtimes_silent

# Before any module of this room imports onnxruntime.
keep_runtimes_silent()
