"""Do the layers really run in integers? Read off the graph that onnxruntime optimises for itself.

A QDQ model is a float model with annotations: a layer whose annotations the runtime cannot fuse
runs in float, slower than before, and no error says so.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import onnx
import onnxruntime

from converter.errors import ModelFailed
from converter.quantise import LAYERS
from converter.sessions import first_line, session_options

INTEGER_LAYERS = frozenset(
    {
        "ConvInteger",
        "MatMulInteger",
        "MatMulIntegerToFloat",
        "QGemm",
        "QLinearConv",
        "QLinearConvTranspose",
        "QLinearMatMul",
    }
)


@dataclass(frozen=True)
class Audit:
    """How many convolutions and matrix products run in integers, and how many stayed float."""

    integer: int
    floating: int


def audit(model: bytes, work: Path) -> Audit:
    """Load `model` as a device would and count; files go to `work` only."""
    target = work / "optimised.onnx"
    options = session_options(target)
    # EXTENDED holds every integer fusion; ALL would rewrite layouts beyond recognition.
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    try:
        onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's errors share no base of their own
        raise ModelFailed(f"onnxruntime refuses the int8 model: {first_line(error)}") from error
    kinds = Counter(node.op_type for node in onnx.load(target).graph.node)
    return Audit(
        integer=sum(kinds[name] for name in INTEGER_LAYERS),
        floating=sum(kinds[name] for name in LAYERS),
    )
