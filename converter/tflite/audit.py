"""Do the layers really run in integers? Read off the operators of the int8 file itself.

LiteRT rewrites no types: what the file says is what its kernels compute.
"""

from __future__ import annotations

from ai_edge_litert import schema_py_generated as schema

from converter.audit import Audit
from converter.tflite.flatbuffer import parse
from converter.tflite.source import LAYERS, operators

_OPERAND = {schema.BuiltinOperator.TRANSPOSE_CONV: 2}
"""Which input holds the activations, where it is not the first."""


def audit_tflite(data: bytes) -> Audit:
    """Count the convolutions and matrix products of an int8 model that compute in integers."""
    model = parse(data, "the int8 model")
    tensors = model.subgraphs[0].tensors
    kinds = [
        tensors[node.inputs[_OPERAND.get(code, 0)]].type
        for code, node in operators(model)
        if code in LAYERS
    ]
    floating = sum(kind == schema.TensorType.FLOAT32 for kind in kinds)
    return Audit(integer=len(kinds) - floating, floating=floating)
