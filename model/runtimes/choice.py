"""Which runtimes this machine has, and the session that fits a variant."""

from __future__ import annotations

import importlib
from contextlib import suppress
from importlib import metadata
from pathlib import Path

from contract.manifest import Variant
from model.runtimes.litert_session import LiteRtSession
from model.runtimes.onnxruntime_session import OnnxRuntimeSession
from model.runtimes.session import Session

_DISTRIBUTIONS = {
    "onnxruntime": ("onnxruntime", "onnxruntime-gpu"),
    "litert": ("ai-edge-litert",),
    "tflite-runtime": ("tflite-runtime",),
}
_MODULES = {
    "onnxruntime": ("onnxruntime",),
    "litert": ("ai_edge_litert.interpreter", "tflite_runtime.interpreter"),
}


def installed_runtimes() -> dict[str, str]:
    """Runtime name, as in `contract.messages.Hardware`, -> version; imports none of them."""
    found = {}
    for name, distributions in _DISTRIBUTIONS.items():
        version = next(filter(None, map(_version, distributions)), None)
        if version is not None:
            found[name] = version
    return found


def open_session(variant: Variant, path: Path, threads: int = 1) -> Session:
    """Load the model file of a variant into its runtime, on `threads` threads.

    Raises `RuntimeUnavailable` when the runtime is not there, `ModelLoadFailed` when it refuses
    the file or when the model's tensors are not those of the variant.
    """
    if variant.runtime == "onnxruntime":
        return OnnxRuntimeSession(variant, path, threads)
    return LiteRtSession(variant, path, threads)


def preload_runtime(variant: Variant) -> None:
    """Import the runtime that a variant needs, so that its memory can be told from the model's.

    Quiet where there is none: `open_session` says that better.
    """
    for name in _MODULES[variant.runtime]:
        with suppress(ImportError):
            importlib.import_module(name)
            return


def _version(distribution: str) -> str | None:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None
