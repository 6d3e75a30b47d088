"""scikit-learn's linear operators (domain ai.onnx.ml) in standard ONNX, which has an int8 form.

Pure. Knows LinearClassifier, LinearRegressor, Scaler and Normalizer; what else is of that domain is
left where it is, for the reader of ONNX models to name.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

DOMAIN = "ai.onnx.ml"
_ACTIVATIONS = {"NONE": "Identity", "SOFTMAX": "Softmax", "LOGISTIC": "Sigmoid"}
_NORMS = {"L1": 1, "L2": 2}
_Made = tuple[list[onnx.NodeProto], list[onnx.TensorProto]]


def standardise(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy in which each operator that has a standard form has it."""
    made = onnx.ModelProto()
    made.CopyFrom(model)
    nodes: list[onnx.NodeProto] = []
    for i, node in enumerate(made.graph.node):
        build = _FORMS.get(node.op_type) if node.domain == DOMAIN else None
        built = build(node, f"linear{i}") if build is not None else None
        if built is None:
            nodes.append(onnx.NodeProto.FromString(node.SerializeToString()))
            continue
        nodes.extend(built[0])
        made.graph.initializer.extend(built[1])
    del made.graph.node[:]
    made.graph.node.extend(nodes)
    _flatten_biases(made.graph)
    return made


def _flatten_biases(graph: onnx.GraphProto) -> None:
    """skl2onnx adds [1, C] to a product; as Gemm's bias, onnxruntime's quantiser wants [C]."""
    products = {node.output[0] for node in graph.node if node.op_type == "MatMul"}
    added = {
        name
        for node in graph.node
        if node.op_type == "Add" and products & set(node.input)
        for name in node.input
    }
    for tensor in graph.initializer:
        if tensor.name in added and len(tensor.dims) == 2 and tensor.dims[0] == 1:
            del tensor.dims[0]


def _classifier(node: onnx.NodeProto, name: str) -> _Made | None:
    """Scores alone: outputs[0], the label, is taken by nobody once it is no output."""
    values = _attributes(node)
    intercepts = np.asarray(values.get("intercepts", [0.0]), dtype=np.float32)
    activation = _activation(values)
    if activation is None:
        return None
    return _dense(node.input[0], node.output[1], values, intercepts, activation, name)


def _regressor(node: onnx.NodeProto, name: str) -> _Made | None:
    values = _attributes(node)
    targets = int(values.get("targets", 1))
    intercepts = np.asarray(values.get("intercepts", [0.0] * targets), dtype=np.float32)
    activation = _activation(values)
    if activation is None:
        return None
    return _dense(node.input[0], node.output[0], values, intercepts, activation, name)


def _dense(
    source: str,
    target: str,
    values: dict[str, Any],
    intercepts: NDArray[np.float32],
    activation: str,
    name: str,
) -> _Made | None:
    weights = np.asarray(values["coefficients"], dtype=np.float32)
    if weights.size % len(intercepts):
        return None
    rows = weights.reshape(len(intercepts), -1)
    product, extra = f"{name}.sum", _axis(activation)
    nodes = [
        helper.make_node("Gemm", [source, f"{name}.w", f"{name}.b"], [product], transB=1),
        helper.make_node(activation, [product], [target], **extra),
    ]
    return nodes, [_weight(f"{name}.w", rows), _weight(f"{name}.b", intercepts)]


def _axis(activation: str) -> dict[str, Any]:
    return {"axis": 1} if activation == "Softmax" else {}


def _scaler(node: onnx.NodeProto, name: str) -> _Made:
    values = _attributes(node)
    offset = np.asarray(values["offset"], dtype=np.float32).reshape(1, -1)
    scale = np.asarray(values["scale"], dtype=np.float32).reshape(1, -1)
    nodes = [
        helper.make_node("Sub", [node.input[0], f"{name}.offset"], [f"{name}.moved"]),
        helper.make_node("Mul", [f"{name}.moved", f"{name}.scale"], [node.output[0]]),
    ]
    return nodes, [_weight(f"{name}.offset", offset), _weight(f"{name}.scale", scale)]


def _normalizer(node: onnx.NodeProto, name: str) -> _Made | None:
    del name
    order = _NORMS.get(_text(_attributes(node).get("norm", "MAX")))
    if order is None:
        return None
    norm = helper.make_node("LpNormalization", [node.input[0]], [node.output[0]], axis=1, p=order)
    return [norm], []


_FORMS: dict[str, Callable[[onnx.NodeProto, str], _Made | None]] = {
    "LinearClassifier": _classifier,
    "LinearRegressor": _regressor,
    "Normalizer": _normalizer,
    "Scaler": _scaler,
}


def _activation(values: dict[str, Any]) -> str | None:
    return _ACTIVATIONS.get(_text(values.get("post_transform", "NONE")))


def _attributes(node: onnx.NodeProto) -> dict[str, Any]:
    return {a.name: helper.get_attribute_value(a) for a in node.attribute}


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


def _weight(name: str, values: NDArray[np.float32]) -> onnx.TensorProto:
    return numpy_helper.from_array(np.ascontiguousarray(values), name)
