"""Makes an exported ONNX model speak of the network only.

Owns: stable tensor and node names, and the removal of what an exporter leaves behind (stack traces,
paths, its own metadata). Refuses: changing a weight, an operator or an attribute.
"""

from __future__ import annotations

import onnx

PRODUCER = "outrider-example-digits"
IR_VERSION = 8  # the one that came with opset 17; onnxruntime 1.16 refuses IR 10


def clean_model(model: onnx.ModelProto) -> bytes:
    """Checked ONNX bytes that depend on the graph and its weights alone."""
    model.ir_version = IR_VERSION
    model.producer_name, model.producer_version = PRODUCER, ""
    model.doc_string = ""
    del model.metadata_props[:]
    _clean_graph(model.graph)
    onnx.checker.check_model(model, full_check=True)
    content: bytes = model.SerializeToString(deterministic=True)
    return content


def _clean_graph(graph: onnx.GraphProto) -> None:
    graph.name, graph.doc_string = "digits", ""
    del graph.metadata_props[:]
    del graph.value_info[:]
    names = _stable_names(graph)
    _order_weights(graph)
    for node, name in zip(graph.node, _node_names(graph), strict=True):
        node.name, node.doc_string = name, ""
        del node.metadata_props[:]
        node.input[:] = [names.get(value, value) for value in node.input]
        node.output[:] = [names.get(value, value) for value in node.output]
    for weight in graph.initializer:
        weight.name, weight.doc_string = names[weight.name], ""
        del weight.metadata_props[:]


def _order_weights(graph: onnx.GraphProto) -> None:
    """Weights in the order of their use: the last layer's stand at the end of the file.

    So a retrained last layer changes one stretch of bytes, and a device fetches that one only.
    """
    place = {value: (i, j) for i, n in enumerate(graph.node) for j, value in enumerate(n.input)}
    ordered = sorted(graph.initializer, key=lambda weight: place[weight.name])
    del graph.initializer[:]
    graph.initializer.extend(ordered)


def _node_names(graph: onnx.GraphProto) -> list[str]:
    """`conv1`, `relu1`, `conv2` ...: the operator and its place among its own kind."""
    seen: dict[str, int] = {}
    names = []
    for node in graph.node:
        seen[node.op_type] = seen.get(node.op_type, 0) + 1
        names.append(f"{node.op_type.lower()}{seen[node.op_type]}")
    return names


def _stable_names(graph: onnx.GraphProto) -> dict[str, str]:
    """Old to new name of every inner tensor: `conv1.weight`, `conv1.bias`, `conv1.out`."""
    weights = {weight.name for weight in graph.initializer}
    fixed = {value.name for value in (*graph.input, *graph.output)}
    names: dict[str, str] = {}
    for node, name in zip(graph.node, _node_names(graph), strict=True):
        own = [value for value in node.input if value in weights]
        names.update(zip(own, (f"{name}.weight", f"{name}.bias"), strict=False))
        names.update({value: f"{name}.out" for value in node.output if value not in fixed})
    return names
