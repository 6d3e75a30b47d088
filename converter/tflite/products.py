"""A matrix product with constant weights as the layer that it is: BATCH_MATMUL -> FULLY_CONNECTED.

Exporters write the former for a layer without a bias. Its int8 kernel knows one scale for all
weights, the latter's one a channel. Products of two computed tensors, of stacks of matrices, and
with a transposed left side stay as they are.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from converter.tflite.flatbuffer import values

_PRODUCT, _LAYER = schema.BuiltinOperator.BATCH_MATMUL, schema.BuiltinOperator.FULLY_CONNECTED
_KEEPS_DIMENSIONS = 5
"""The version of FULLY_CONNECTED that does; the first one answers [N, channels] only."""


def as_layers(model: Any) -> None:
    """Change the `ModelT` in place; its answers stay the same."""
    codes = [max(c.builtinCode, c.deprecatedBuiltinCode) for c in model.operatorCodes]
    nodes = model.subgraphs[0].operators or []
    users = Counter(int(place) for node in nodes for place in node.inputs)
    users.update(map(int, model.subgraphs[0].outputs))
    found = [n for n in nodes if codes[n.opcodeIndex] == _PRODUCT and _has_weights(model, n)]
    if not found:
        return
    layer = _operator_code(model)
    for node in found:
        place = _turned(model, node, alone=users[int(node.inputs[1])] == 1)
        node.opcodeIndex, node.inputs = layer, [int(node.inputs[0]), place, -1]
        node.builtinOptionsType = schema.BuiltinOptions.FullyConnectedOptions
        node.builtinOptions = schema.FullyConnectedOptionsT()
        node.builtinOptions.keepNumDims = True


def _has_weights(model: Any, node: Any) -> bool:
    tensor = model.subgraphs[0].tensors[node.inputs[1]]
    options = node.builtinOptions
    return (
        values(model, tensor) is not None
        and tensor.type == schema.TensorType.FLOAT32
        and len(tensor.shape) == 2
        and not (options is not None and options.adjX)
    )


def _turned(model: Any, node: Any, *, alone: bool) -> int:
    """The place of the weights as [channels, inputs], in the old one where nobody else reads it."""
    tensors, place = model.subgraphs[0].tensors, int(node.inputs[1])
    tensor = tensors[place]
    if node.builtinOptions is not None and node.builtinOptions.adjY:
        return place
    raw = values(model, tensor)
    assert raw is not None  # noqa: S101 - narrows the type; the caller has looked
    weights = np.ascontiguousarray(raw.view("<f4").reshape([int(n) for n in tensor.shape]).T)
    if not alone or sum(other.buffer == tensor.buffer for other in tensors) > 1:
        place = len(tensors)
        tensors.append(schema.TensorT())
        tensors[place].name, tensors[place].type = tensor.name, tensor.type
        tensors[place].buffer = len(model.buffers)
        model.buffers.append(schema.BufferT())
    tensors[place].shape, tensors[place].shapeSignature = list(weights.shape), None
    model.buffers[tensors[place].buffer].data = np.frombuffer(weights.tobytes(), np.uint8)
    return place


def _operator_code(model: Any) -> int:
    made = schema.OperatorCodeT()
    made.builtinCode = made.deprecatedBuiltinCode = _LAYER
    made.version = _KEEPS_DIMENSIONS
    model.operatorCodes.append(made)
    return len(model.operatorCodes) - 1
