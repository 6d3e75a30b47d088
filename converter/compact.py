"""The shipped form of a graph: the network and its weights, nothing else, in a fixed place.

Owns: Q/DQ pairs that no integer layer needs, tensors that say the same twice, exporter's names and
notes, and the order of the weights. Weights stand in the order of their use, so that a retrained
last layer changes the end of the file and a device fetches that end only. Changes no value.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

import onnx
from onnx import numpy_helper

from converter.canonical import IR_VERSION, keep_used_domains
from converter.errors import QuantisationFailed
from converter.quantise import FLOAT_TAIL
from converter.sessions import first_line

_FLOAT_PRODUCERS = frozenset({"Gemm", "MatMul"})
"""Integer layers that can answer in float themselves; a convolution needs its Q/DQ pair."""


def compact(model: onnx.ModelProto) -> bytes:
    """The same model as minimal bytes; equal networks give equal bytes."""
    slim = onnx.ModelProto()
    slim.CopyFrom(model)
    drop_tail_pairs(slim.graph)
    _share_equal_constants(slim.graph)
    _drop_notes(slim)
    _rename(slim.graph)
    _order_weights(slim.graph)
    keep_used_domains(slim)
    slim.ir_version = IR_VERSION
    try:
        onnx.checker.check_model(slim, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise QuantisationFailed(
            f"the int8 graph is not valid ({first_line(error)}); export the model again"
        ) from error
    content: bytes = slim.SerializeToString(deterministic=True)
    return content


def drop_tail_pairs(graph: onnx.GraphProto) -> None:
    """Remove Q -> DQ where a matrix product feeds only float operators or the model's output.

    The product then answers in float32 itself: one rounding less, two nodes less.
    """
    makers = {name: node for node in graph.node for name in node.output}
    readers = _readers(graph)
    outputs = {value.name for value in graph.output}
    for restore in [n for n in graph.node if n.op_type == "DequantizeLinear"]:
        reduce = makers.get(restore.input[0])
        if reduce is None or reduce.op_type != "QuantizeLinear":
            continue
        value, answer = reduce.input[0], restore.output[0]
        source, users = makers.get(value), readers.get(answer, [])
        if source is None or source.op_type not in _FLOAT_PRODUCERS:
            continue
        if len(readers[value]) > 1 or len(readers[reduce.output[0]]) > 1 or value in outputs:
            continue
        if all(user.op_type in FLOAT_TAIL for user in users):
            source.output[0] = answer
            graph.node.remove(reduce)
            graph.node.remove(restore)


def _share_equal_constants(graph: onnx.GraphProto) -> None:
    """Zero points are mostly one and the same tensor, stored once for each weight."""
    points = {n.input[2] for n in graph.node if n.op_type.endswith("eLinear") and len(n.input) > 2}
    first: dict[bytes, str] = {}
    same: dict[str, str] = {}
    for tensor in graph.initializer:
        if tensor.name in points:
            values = numpy_helper.to_array(tensor)
            key = f"{values.dtype}{values.shape}".encode() + values.tobytes()
            same[tensor.name] = first.setdefault(key, tensor.name)
    for node in graph.node:
        node.input[:] = [same.get(name, name) for name in node.input]


def _drop_notes(model: onnx.ModelProto) -> None:
    model.ClearField("metadata_props")
    model.ClearField("training_info")
    for field in ("producer_name", "producer_version", "domain", "model_version", "doc_string"):
        model.ClearField(field)
    graph = model.graph
    graph.name = "model"
    for field in ("doc_string", "value_info", "quantization_annotation", "metadata_props"):
        graph.ClearField(field)
    for node in graph.node:
        node.ClearField("doc_string")
        node.ClearField("metadata_props")
    for value in (*graph.input, *graph.output):
        value.ClearField("doc_string")


def _rename(graph: onnx.GraphProto) -> None:
    """Inputs and outputs keep their names; all else is numbered by use, and layers by kind."""
    fixed = {value.name for value in (*graph.input, *graph.output)}
    # Inner graphs (If, Loop) may name tensors of this one: then nothing is renamed.
    if any(a.HasField("g") or a.graphs for node in graph.node for a in node.attribute):
        return
    weights = {tensor.name for tensor in graph.initializer}
    names = {name: name for name in (*fixed, "")}
    seen: Counter[str] = Counter()
    taken = set(fixed)
    for node in graph.node:
        for name in (*node.input, *node.output):
            if name not in names:
                names[name] = _fresh("w" if name in weights else "t", seen, taken)
        node.name = ""
        node.input[:] = [names[name] for name in node.input]
        node.output[:] = [names[name] for name in node.output]
    for tensor in graph.initializer:
        tensor.name = names.get(tensor.name, tensor.name)


def _fresh(prefix: str, seen: Counter[str], taken: Iterable[str]) -> str:
    while True:
        seen[prefix] += 1
        name = f"{prefix}{seen[prefix]}"
        if name not in taken:
            return name


def _order_weights(graph: onnx.GraphProto) -> None:
    """In order of use; what nobody uses goes, and all bytes stand in `raw_data`."""
    place: dict[str, int] = {}
    for node in graph.node:
        for name in node.input:
            place.setdefault(name, len(place))
    inner = any(a.HasField("g") or a.graphs for node in graph.node for a in node.attribute)
    used = [t for t in graph.initializer if inner or t.name in place]
    used.sort(key=lambda tensor: place.get(tensor.name, len(place)))
    plain = [numpy_helper.from_array(numpy_helper.to_array(t), t.name) for t in used]
    del graph.initializer[:]
    graph.initializer.extend(plain)


def _readers(graph: onnx.GraphProto) -> dict[str, list[onnx.NodeProto]]:
    readers: dict[str, list[onnx.NodeProto]] = {}
    for node in graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)
    return readers
