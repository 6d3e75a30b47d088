"""The float model in the one form that the rest of the pipeline knows.

Owns: weights out of the input list, opset 17 and IR 8, onnxruntime's basic simplification
(constants folded, batch norm folded into convolutions, MatMul + Add as Gemm), averages over the
whole picture as such, a tensor of its own for each bias, and a batch of one where that is asked
for. The answers stay the same, and
`require_same` checks that. Opset 17 and IR 8 load on onnxruntime 1.16 (JetPack 5) too.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import count
from pathlib import Path

import numpy as np
import onnx
import onnxruntime

from contract.manifest import TensorSpec
from converter.answers import pairs
from converter.errors import ModelChanged, ModelFailed, UnsupportedOpset
from converter.samples import Arrays
from converter.sessions import first_line, session_options
from converter.source import STANDARD_DOMAINS, SourceModel

OPSET = 17
IR_VERSION = 8
_LAYERS, _BIAS = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"}), 2
TOLERANCE = 1e-3
"""Of the output's largest value: folding rounds differently, and no more than that."""


def canonicalise(source: SourceModel, work: Path) -> onnx.ModelProto:
    """The simplified float model; files go to `work` only."""
    model = onnx.ModelProto()
    model.CopyFrom(source.proto)
    _weights_are_no_inputs(model)
    model = _to_opset(source, model)
    simplified = _simplify(model, work)
    keep_used_domains(simplified)
    simplified.ir_version = IR_VERSION
    inferred: onnx.ModelProto = onnx.shape_inference.infer_shapes(simplified, data_prop=True)
    _untie(inferred.graph)
    _name_whole_averages(inferred.graph)
    _name_nodes(inferred.graph)
    return inferred


def fix_batch(source: SourceModel) -> SourceModel:
    """The same model, for exactly one sample a call."""
    proto = onnx.ModelProto()
    proto.CopyFrom(source.proto)
    names = {spec.name for spec in source.inputs}
    for value in proto.graph.input:
        if value.name in names:
            value.type.tensor_type.shape.dim[0].dim_value = 1
    for value in (*proto.graph.output, *proto.graph.value_info):
        dims = value.type.tensor_type.shape.dim
        if dims and not dims[0].HasField("dim_value"):
            dims[0].Clear()
    inputs = tuple(
        TensorSpec(name=spec.name, dtype=spec.dtype, shape=[1, *spec.shape[1:]])
        for spec in source.inputs
    )
    return replace(source, data=proto.SerializeToString(), proto=proto, inputs=inputs)


def require_same(before: Arrays, after: Arrays) -> None:
    """Raise `ModelChanged` when simplification moved an output by more than rounding."""
    for name, ours in before.items():
        difference = scale = 0.0
        for _, one, other in pairs(ours, after[name]):
            difference = max(difference, float(np.abs(one - other).max(initial=0.0)))
            scale = max(scale, float(np.abs(one).max(initial=0.0)))
        if difference > TOLERANCE * max(scale, 1e-6):
            raise ModelChanged(
                f"simplifying the model moved output {name!r} by {difference:.3g}; export it with"
                " opset_version=17 and constant folding"
            )


def keep_used_domains(model: onnx.ModelProto) -> None:
    """Drop the opset imports that no node needs: an old onnxruntime may not know them."""
    used = {node.domain for node in model.graph.node} | {""}
    kept = [(o.domain, o.version) for o in model.opset_import if o.domain in used]
    del model.opset_import[:]
    model.opset_import.extend(onnx.helper.make_opsetid(d, v) for d, v in sorted(kept))


def _weights_are_no_inputs(model: onnx.ModelProto) -> None:
    """IR 3 listed weights as inputs, and what a caller might replace cannot be folded."""
    weights = {tensor.name for tensor in model.graph.initializer}
    inputs = [value for value in model.graph.input if value.name not in weights]
    del model.graph.input[:]
    model.graph.input.extend(inputs)


def _to_opset(source: SourceModel, model: onnx.ModelProto) -> onnx.ModelProto:
    version = next(o.version for o in model.opset_import if o.domain in STANDARD_DOMAINS)
    if version == OPSET:
        return model
    _drop_new_defaults(model)
    try:
        converted: onnx.ModelProto = onnx.version_converter.convert_version(model, OPSET)
        onnx.checker.check_model(converted, full_check=True)
    except Exception as error:  # the C++ converter raises bare RuntimeErrors and more
        raise UnsupportedOpset(
            f"{source.name}: opset {version} cannot be brought to {OPSET} ({first_line(error)});"
            f" export again with opset_version={OPSET}, in PyTorch with dynamo=False"
        ) from error
    return converted


def _drop_new_defaults(model: onnx.ModelProto) -> None:
    """PyTorch writes opset 18's `noop_with_empty_axes=0` out; onnx's converter then stumbles."""
    for node in model.graph.node:
        for attribute in [a for a in node.attribute if a.name == "noop_with_empty_axes"]:
            if attribute.i == 0:
                node.attribute.remove(attribute)


def _simplify(model: onnx.ModelProto, work: Path) -> onnx.ModelProto:
    target = work / "simplified.onnx"
    options = session_options(target)
    # BASIC stays within standard ONNX; the levels above put in operators of this machine's CPU.
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    try:
        onnxruntime.InferenceSession(
            model.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
    except Exception as error:  # onnxruntime's errors share no base of their own
        raise ModelFailed(f"onnxruntime does not load the model: {first_line(error)}") from error
    return onnx.load(target)


def _untie(graph: onnx.GraphProto) -> None:
    """A constant that serves in several ways becomes as many, since each has scales of its own.

    A bias has its layer's; a weight has one a channel, wherever the layer has its channels. Layers
    that use a weight alike keep sharing it, as the two halves of a siamese network do.
    """
    constants = {tensor.name: tensor for tensor in graph.initializer}
    taken = {*constants, *(v.name for v in graph.input), *(o for n in graph.node for o in n.output)}
    roles: dict[str, dict[object, str]] = {}
    for node in graph.node:
        for place, name in enumerate(node.input):
            if name not in constants:
                continue
            names = roles.setdefault(name, {})
            role = _role(node, place)
            if role not in names:
                names[role] = _copied(graph, constants[name], taken) if names else name
            node.input[place] = names[role]


def _copied(graph: onnx.GraphProto, tensor: onnx.TensorProto, taken: set[str]) -> str:
    """The name of a copy of `tensor`, which nothing else has."""
    name = next(n for i in count(2) if (n := f"{tensor.name}/{i}") not in taken)
    taken.add(name)
    graph.initializer.add().CopyFrom(tensor)
    graph.initializer[-1].name = name
    return name


def _role(node: onnx.NodeProto, place: int) -> object:
    if node.op_type not in _LAYERS:
        return None
    if place == _BIAS:
        return node.output[0]
    given = {a.name: a.i for a in node.attribute if a.name in ("group", "transA", "transB")}
    return node.op_type, place, tuple(sorted(given.items()))


def _name_whole_averages(graph: onnx.GraphProto) -> None:
    """An average over the whole picture becomes a global one, which has a scale of its own.

    The quantiser gives a plain AveragePool the scale of its input, and with it few of its steps.
    """
    shapes = {value.name: value for value in (*graph.input, *graph.value_info)}
    for node in graph.node:
        if node.op_type != "AveragePool" or node.input[0] not in shapes:
            continue
        dims = shapes[node.input[0]].type.tensor_type.shape.dim
        given = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
        whole = list(given.get("kernel_shape", [])) == [d.dim_value for d in dims][2:]
        padded = any(given.get("pads", [])) or given.get("auto_pad", b"NOTSET") != b"NOTSET"
        if whole and not padded and set(given.get("dilations", [1])) == {1}:
            node.op_type = "GlobalAveragePool"
            del node.attribute[:]


def _name_nodes(graph: onnx.GraphProto) -> None:
    """By what they make, which is unique: nodes are told apart by name from here on."""
    for node in graph.node:
        node.name = f"{node.op_type}:{next(name for name in node.output if name)}"
