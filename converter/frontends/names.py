"""An ONNX model without what depends on the exporter's mood: names, unused nodes, doc strings.

Pure: the same graph gives the same bytes, whatever its inner tensors were called. The model's own
inputs and outputs keep their names; they are its contract.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import onnx

BATCH = "N"
IR_VERSION = 8
"""The newest that onnxruntime 1.16 loads."""


def tidy(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy with unused nodes and weights left out and inner names numbered in order of use."""
    made = onnx.ModelProto()
    made.CopyFrom(model)
    _drop_unused(made.graph)
    _rename(made.graph, _Names(_boundary(made.graph)))
    _name_batch(made.graph)
    _drop_unused_domains(made)
    del made.metadata_props[:]
    made.doc_string = made.graph.doc_string = ""
    made.graph.name = "model"
    made.ir_version = min(made.ir_version, IR_VERSION)
    return made


class _Names:
    """Old name -> new name, given out in the order in which they are first asked for."""

    def __init__(self, kept: Iterable[str]) -> None:
        self._names = {name: name for name in kept}
        self._taken = set(self._names)
        self._count = 0

    def __getitem__(self, name: str) -> str:
        if name and name not in self._names:
            self._names[name] = self._fresh()
        return self._names.get(name, name)

    def _fresh(self) -> str:
        while (name := f"t{self._count}") in self._taken:
            self._count += 1
        self._count += 1
        return name


def _boundary(graph: onnx.GraphProto) -> list[str]:
    return [value.name for value in (*graph.input, *graph.output)]


def _drop_unused(graph: onnx.GraphProto) -> None:
    needed = {value.name for value in graph.output}
    kept: list[onnx.NodeProto] = []
    for node in reversed(graph.node):  # onnx demands that nodes stand in order of use
        if needed & set(node.output):
            needed.update(_uses(node))
            kept.append(node)
    kept.reverse()
    nodes = [_copy(node) for node in kept]
    del graph.node[:]
    graph.node.extend(nodes)
    weights = {tensor.name: tensor for tensor in graph.initializer if tensor.name in needed}
    order = [name for node in graph.node for name in _uses(node) if name in weights]
    tensors = [weights[name] for name in dict.fromkeys((*order, *sorted(weights)))]
    copies = [onnx.TensorProto.FromString(tensor.SerializeToString()) for tensor in tensors]
    del graph.initializer[:]
    graph.initializer.extend(copies)
    del graph.value_info[:]


def _copy(node: onnx.NodeProto) -> onnx.NodeProto:
    made = onnx.NodeProto()
    made.CopyFrom(node)
    return made


def _uses(node: onnx.NodeProto) -> list[str]:
    """What a node reads, and what the graphs inside of it read from around them."""
    used = list(node.input)
    for inner in _graphs(node):
        for child in inner.node:
            used.extend(_uses(child))
        used.extend(value.name for value in inner.output)
    return used


def _graphs(node: onnx.NodeProto) -> Iterator[onnx.GraphProto]:
    for attribute in node.attribute:
        if attribute.HasField("g"):
            yield attribute.g
        yield from attribute.graphs


def _rename(graph: onnx.GraphProto, names: _Names) -> None:
    for i, node in enumerate(graph.node):
        node.name, node.doc_string = f"n{i}", ""
        for place, name in enumerate(node.input):
            node.input[place] = names[name]
        for inner in _graphs(node):
            _rename_inner(inner, names)
        for place, name in enumerate(node.output):
            node.output[place] = names[name]
    for tensor in graph.initializer:
        tensor.name, tensor.doc_string = names[tensor.name], ""


def _rename_inner(graph: onnx.GraphProto, names: _Names) -> None:
    """A graph inside of a node: its boundary is called by place, so that it may be renamed too."""
    for value in graph.input:
        value.name = names[value.name]
    _rename(graph, names)
    for value in graph.output:
        value.name = names[value.name]
    del graph.value_info[:]
    graph.name = "inner"


def _name_batch(graph: onnx.GraphProto) -> None:
    """`unk__12` and the like: numbers of the exporter's own count."""
    for value in (*graph.input, *graph.output):
        for place, dim in enumerate(value.type.tensor_type.shape.dim):
            if dim.HasField("dim_param"):
                dim.dim_param = BATCH if place == 0 else f"{BATCH}{place}"


def _drop_unused_domains(model: onnx.ModelProto) -> None:
    used = {node.domain for node in model.graph.node} | {""}
    kept = sorted({(o.domain, o.version) for o in model.opset_import if o.domain in used})
    del model.opset_import[:]
    model.opset_import.extend(onnx.helper.make_opsetid(domain, v) for domain, v in kept)
