"""Do the layers really run in integers? Read off the graph that onnxruntime optimises for itself.

A QDQ model is a float model with annotations: a layer whose annotations the runtime cannot fuse
runs in float, slower than before, and no error says so.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import onnx
import onnxruntime

from converter.errors import ModelFailed
from converter.quantise import LAYERS
from converter.sessions import first_line, session_options

FLOAT_LAYERS = LAYERS | {"FusedConv", "FusedGemm", "FusedMatMul"}
"""As they are, or with their activation built in."""
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
    """How many convolutions and matrix products run in integers, and how many stayed float.

    `left_float`: names of the latter, where names were given.
    """

    integer: int
    floating: int
    left_float: tuple[str, ...] = ()


def audit(model: bytes, work: Path, names: Sequence[str] = ()) -> Audit:
    """Load `model` as a device would and count; files go to `work` only.

    `names` of its layers, in the order of its graph: a shipped model holds none.
    """
    model = _named(model, names)
    target = work / "optimised.onnx"
    options = session_options(target)
    # EXTENDED holds every integer fusion; ALL would rewrite layouts beyond recognition.
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    try:
        onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's errors share no base of their own
        raise ModelFailed(f"onnxruntime refuses the int8 model: {first_line(error)}") from error
    nodes = onnx.load(target).graph.node
    kinds = Counter(node.op_type for node in nodes)
    floating = [node.name for node in nodes if node.op_type in FLOAT_LAYERS]
    return Audit(
        integer=sum(kinds[name] for name in INTEGER_LAYERS),
        floating=len(floating),
        # A layer with its activation built in is called "fused " and its name.
        left_float=tuple(name for name in names if {name, f"fused {name}"} & set(floating)),
    )


def _named(model: bytes, names: Sequence[str]) -> bytes:
    if not names:
        return model
    proto = onnx.load_from_string(model)
    layers = [node for node in proto.graph.node if node.op_type in LAYERS]
    for node, name in zip(layers, names, strict=True):
        node.name = name
    named: bytes = proto.SerializeToString()
    return named
