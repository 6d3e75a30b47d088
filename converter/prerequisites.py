"""What a request needs of other tools, looked at before any work: a quantisation takes minutes.

Owns how a request becomes options for the frontends. Runs no tool; asks whether it is there.
"""

from __future__ import annotations

from importlib.util import find_spec

from converter.errors import ExtraMissing
from converter.frontends.formats import detect
from converter.frontends.onnx2tf import require_onnx2tf
from converter.frontends.sources import SourceOptions, Sources
from converter.request import ConvertRequest

TENSORFLOW = frozenset({"savedmodel", "keras", "h5"})
"""Kinds of models that have a TFLite form of their own."""
_QUANTISER = "ai_edge_quantizer"


def source_options(request: ConvertRequest) -> SourceOptions:
    """How the model is opened; raises what `detect` raises."""
    return SourceOptions(
        trust_pickle=request.trust_pickle,
        tflite=request.with_tflite or detect(request.model) in TENSORFLOW,
        onnx2tf_python=request.onnx2tf_python,
        timeout_s=request.source_timeout_s,
    )


def wants_onnx2tf(request: ConvertRequest, sources: Sources) -> bool:
    """Whether TFLite is asked for, and the model gave none by itself."""
    asked = request.with_tflite or request.onnx2tf_python is not None
    return asked and sources.tflite is None


def require_tools(request: ConvertRequest, sources: Sources) -> None:
    """Raise `ExtraMissing` or `PythonTooOld` for what the TFLite variant lacks.

    Trees have none: they ship as they are.
    """
    if sources.trees is not None:
        return
    wanted = wants_onnx2tf(request, sources)
    if (wanted or sources.tflite is not None) and find_spec(_QUANTISER) is None:
        raise ExtraMissing(
            f"{request.model.name}: TensorFlow Lite models need ai-edge-quantizer; pip install"
            " 'outrider[tflite]'"
        )
    if wanted:
        require_onnx2tf(request.model.name, source_options(request))
