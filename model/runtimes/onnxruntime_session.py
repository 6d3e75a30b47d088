"""ONNX models through onnxruntime: CPU, and CUDA or TensorRT for variants that require them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from contract.manifest import TensorSpec, Variant
from model.errors import InferenceFailed, ModelLoadFailed, RuntimeUnavailable
from model.runtimes.session import require_same_tensors
from model.telemetry import keep_runtimes_silent
from model.tensors import Array, Tensors, checked_inputs

_DTYPES = {
    "tensor(float)": "float32",
    "tensor(float16)": "float16",
    "tensor(int8)": "int8",
    "tensor(uint8)": "uint8",
    "tensor(int16)": "int16",
    "tensor(int32)": "int32",
    "tensor(int64)": "int64",
    "tensor(bool)": "bool",
}
_PROVIDERS = {"tensorrt": "TensorrtExecutionProvider", "cuda": "CUDAExecutionProvider"}
"""Accelerators that a variant may require -> the provider that serves them, best first."""
_LOG_ERRORS_ONLY = 3


class OnnxRuntimeSession:
    """A `Session` (model.runtimes.session). onnxruntime itself allows concurrent runs."""

    def __init__(self, variant: Variant, path: Path, threads: int = 1) -> None:
        self.inputs: list[TensorSpec] = variant.inputs
        self.outputs: list[TensorSpec] = variant.outputs
        self._names = [spec.name for spec in variant.outputs]
        self._session: Any = _load(variant, path, threads)
        require_same_tensors("input", variant.inputs, _described(self._session.get_inputs()))
        require_same_tensors("output", variant.outputs, _described(self._session.get_outputs()))

    def infer(self, inputs: Tensors) -> dict[str, Array]:
        """See `Session.infer`."""
        session = self._session
        if session is None:
            raise InferenceFailed("the session is closed")
        feed = checked_inputs(self.inputs, inputs)
        try:
            return dict(zip(self._names, session.run(self._names, feed), strict=True))
        except Exception as error:  # the runtime's errors share no other base
            raise InferenceFailed(f"onnxruntime: {str(error)[:400]}") from error

    def close(self) -> None:
        """See `Session.close`; a run that is under way keeps its own reference."""
        self._session = None


def _load(variant: Variant, path: Path, threads: int) -> Any:
    keep_runtimes_silent()
    try:
        import onnxruntime
    except ImportError as error:
        raise RuntimeUnavailable(f"onnxruntime cannot be imported: {error}") from error
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = _LOG_ERRORS_ONLY
    # Spinning threads burn a small board's power between requests.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    providers = _providers(variant, onnxruntime.get_available_providers())
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=providers)
    except Exception as error:  # the runtime's errors share no other base
        raise ModelLoadFailed(f"onnxruntime refused {path.name}: {str(error)[:400]}") from error


def _providers(variant: Variant, available: Sequence[str]) -> list[str]:
    wanted = [_PROVIDERS[name] for name in _PROVIDERS if name in variant.requires.accelerators]
    missing = [provider for provider in wanted if provider not in available]
    if missing:
        raise RuntimeUnavailable(f"this onnxruntime has no {', '.join(missing)}")
    return [*wanted, "CPUExecutionProvider"]


def _described(nodes: Sequence[Any]) -> list[tuple[str, str, list[int]]]:
    # A symbolic or unknown dimension is a name or None: any size.
    return [
        (
            node.name,
            _DTYPES.get(node.type, node.type),
            [size if isinstance(size, int) and size >= 0 else -1 for size in node.shape],
        )
        for node in nodes
    ]
