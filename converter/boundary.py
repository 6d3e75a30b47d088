"""An int8 model whose inputs and outputs are integers, too: for devices whose pre-processing is.

Owns the boundary: float inputs and outputs become uint8 with a scale and a zero point. Where a
Q/DQ pair stands there already, directly or behind operators that only move values, it is stripped,
and nothing is rounded twice; elsewhere a conversion is put in. A boundary that is float after all
is refused: whoever asked for integers would feed them in unscaled, and no error would say so.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import TensorProto, numpy_helper

from contract.manifest import Quantisation
from converter.errors import FloatBoundary
from converter.quantisation.graph import Wiring, wire
from converter.quantise import FLOAT_TAIL
from converter.ranges import Range

MOVERS = frozenset({"Reshape", "Transpose", "Flatten", "Squeeze", "Unsqueeze", "Identity"})
"""They take integers as well as floats, and change none."""
LEVELS = 255
PROBABILITIES = Range(0.0, 255 / 256)
"""A softmax in steps of 1/256, as TensorFlow Lite has it: 1 itself is one step short."""


@dataclass(frozen=True)
class IntegerModel:
    """The model and, by name, what an integer at its boundary means."""

    model: onnx.ModelProto
    quantisation: Mapping[str, Quantisation]


def integer_boundary(quantised: onnx.ModelProto, ranges: Mapping[str, Range]) -> IntegerModel:
    """`quantised` with uint8 inputs and outputs; float ones without a range are refused.

    `ranges` by tensor name, as they were calibrated. Raises `FloatBoundary`.
    """
    made = onnx.ModelProto()
    made.CopyFrom(quantised)
    meanings: dict[str, Quantisation] = {}
    constants = {tensor.name for tensor in made.graph.initializer}
    for value in made.graph.input:
        if value.name not in constants and _is_float(value):
            meanings[value.name] = _take_integers(made.graph, value, ranges)
    for value in made.graph.output:
        if _is_float(value):
            meanings[value.name] = _give_integers(made.graph, value, ranges)
    made.graph.ClearField("value_info")  # the types of what was moved are no longer these
    _sort(made.graph)
    require_integers(made)
    return IntegerModel(made, meanings)


def require_integers(model: onnx.ModelProto) -> None:
    """Raise `FloatBoundary` that names the first input or output that is not an integer."""
    for value in (*model.graph.input, *model.graph.output):
        if _is_float(value):
            raise FloatBoundary(
                f"{value.name!r} is still float32 after integers were asked for; convert without"
                " integer inputs and outputs"
            )


def _take_integers(
    graph: onnx.GraphProto, value: onnx.ValueInfoProto, ranges: Mapping[str, Range]
) -> Quantisation:
    wiring = wire(graph)
    reducers = _reducers(value.name, wiring)
    value.type.tensor_type.elem_type = TensorProto.UINT8
    if reducers:
        for node in reducers:
            _bridge(graph, node)
        return _meaning(reducers[0], wiring)
    meaning, names = _new_parameters(graph, value.name, _range(value.name, ranges))
    restored = f"{value.name}/restored"
    for node in wiring.readers.get(value.name, ()):
        node.input[:] = [restored if name == value.name else name for name in node.input]
    graph.node.append(onnx.helper.make_node("DequantizeLinear", [value.name, *names], [restored]))
    return meaning


def _give_integers(
    graph: onnx.GraphProto, value: onnx.ValueInfoProto, ranges: Mapping[str, Range]
) -> Quantisation:
    wiring = wire(graph)
    restore = _restorer(value.name, wiring)
    value.type.tensor_type.elem_type = TensorProto.UINT8
    if restore is not None:
        _bridge(graph, restore)
        return _meaning(restore, wiring)
    maker = wiring.makers[value.name]
    tail = maker.op_type in FLOAT_TAIL and maker.op_type == "Softmax"
    found = PROBABILITIES if tail else _range(value.name, ranges)
    meaning, names = _new_parameters(graph, value.name, found)
    before = f"{value.name}/float"
    maker.output[:] = [before if name == value.name else name for name in maker.output]
    for node in wiring.readers.get(value.name, ()):
        node.input[:] = [before if name == value.name else name for name in node.input]
    graph.node.append(onnx.helper.make_node("QuantizeLinear", [before, *names], [value.name]))
    return meaning


def _reducers(name: str, wiring: Wiring) -> list[onnx.NodeProto]:
    """The QuantizeLinear nodes that all paths from `name` end in, of one scale; else none."""
    found: list[onnx.NodeProto] = []
    front = [name]
    while front:
        tensor = front.pop()
        if tensor in wiring.outputs:
            return []
        for node in wiring.readers.get(tensor, ()):
            if node.op_type == "QuantizeLinear" and _is_uint8(node, wiring):
                found.append(node)
            elif node.op_type in MOVERS and node.input[0] == tensor:
                front.append(node.output[0])
            else:
                return []
    meanings = {_meaning(node, wiring) for node in found}
    return found if len(meanings) == 1 else []


def _restorer(name: str, wiring: Wiring) -> onnx.NodeProto | None:
    """The DequantizeLinear that `name` comes from, through operators that only move values."""
    while True:
        node = wiring.makers.get(name)
        read_by = len(wiring.readers.get(name, ()))
        if node is None or read_by + (name in wiring.outputs) > 1:
            return None
        if node.op_type == "DequantizeLinear":
            return node if _is_uint8(node, wiring) else None
        if node.op_type not in MOVERS:
            return None
        name = node.input[0]


def _bridge(graph: onnx.GraphProto, node: onnx.NodeProto) -> None:
    """Take the node out; what came in goes on. A name at the model's boundary stays."""
    came, went = node.input[0], node.output[0]
    graph.node.remove(node)
    outputs = {value.name for value in graph.output}
    if went in outputs:
        for other in graph.node:
            other.output[:] = [went if name == came else name for name in other.output]
            other.input[:] = [went if name == came else name for name in other.input]
    else:
        for other in graph.node:
            other.input[:] = [came if name == went else name for name in other.input]


def _is_uint8(node: onnx.NodeProto, wiring: Wiring) -> bool:
    points = wiring.array(node.input[2]) if len(node.input) > 2 else None
    return points is not None and points.dtype == np.uint8 and points.size == 1


def _meaning(node: onnx.NodeProto, wiring: Wiring) -> Quantisation:
    scale = numpy_helper.to_array(wiring.constants[node.input[1]])
    point = numpy_helper.to_array(wiring.constants[node.input[2]])
    return Quantisation(scale=float(scale.reshape(-1)[0]), zero_point=int(point.reshape(-1)[0]))


def _new_parameters(
    graph: onnx.GraphProto, name: str, found: Range
) -> tuple[Quantisation, list[str]]:
    scale = np.float32(max(found.high - found.low, np.finfo(np.float32).tiny) / LEVELS)
    point = np.uint8(np.clip(np.round(-found.low / scale), 0, LEVELS))
    names = [f"{name}/scale", f"{name}/zero_point"]
    graph.initializer.append(numpy_helper.from_array(np.asarray(scale), names[0]))
    graph.initializer.append(numpy_helper.from_array(np.asarray(point), names[1]))
    return Quantisation(scale=float(scale), zero_point=int(point)), names


def _range(name: str, ranges: Mapping[str, Range]) -> Range:
    found = ranges.get(name)
    if found is None:
        raise FloatBoundary(
            f"{name!r} has no calibrated range, so that integers there would mean nothing; convert"
            " without integer inputs and outputs"
        )
    return found


def _is_float(value: onnx.ValueInfoProto) -> bool:
    return bool(value.type.tensor_type.elem_type == TensorProto.FLOAT)


def _sort(graph: onnx.GraphProto) -> None:
    """Each node after what it reads; otherwise the order stays."""
    ready = {v.name for v in graph.input} | {t.name for t in graph.initializer} | {""}
    waiting = list(graph.node)
    ordered: list[onnx.NodeProto] = []
    while waiting:
        node = next(n for n in waiting if all(name in ready for name in n.input))
        waiting.remove(node)
        ordered.append(node)
        ready.update(node.output)
    del graph.node[:]
    graph.node.extend(ordered)
