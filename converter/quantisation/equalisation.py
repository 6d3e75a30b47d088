"""Cross-layer equalisation: the same float function, its channels brought to like ranges.

After Nagel et al., Data-Free Quantization Through Weight Equalization and Bias Correction (ICCV
2019), section 4.1. Where one layer feeds the next through operators that let a positive factor
pass, channel i of the first may be divided by s_i and the second's weights for it multiplied:
float32 does not notice, int8 no longer loses the small channels to the large ones.

Owns: which layers are such pairs, and the factors. The model's last layer is never touched, so
that retraining it alone leaves the bytes of all others where they are.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from converter.quantisation.graph import Wiring, attribute, wire

LAYERS = frozenset({"Conv", "Gemm"})
SCALABLE = frozenset(
    {"Relu", "LeakyRelu", "MaxPool", "AveragePool", "GlobalAveragePool", "GlobalMaxPool"}
)
"""f(s * x) = s * f(x) for s > 0, channel by channel."""
FLATTENING = frozenset({"Flatten", "Reshape"})
ROUNDS = 40
CONVERGED = 1e-3
MAX_FACTOR = 1e4
"""A dead channel has no range of its own to ask for."""


@dataclass(frozen=True)
class Pair:
    """`first` feeds `second` and nobody else. `spread`: values of one channel after flattening."""

    first: onnx.NodeProto
    second: onnx.NodeProto
    spread: int


def equalise(model: onnx.ModelProto) -> tuple[onnx.ModelProto, int]:
    """An equalised copy of a canonical float model, and how many pairs of layers it has."""
    equal = onnx.ModelProto()
    equal.CopyFrom(model)
    _own_constants(equal.graph)
    found = list(find_pairs(equal.graph))
    weights = _Weights(equal.graph)
    for _ in range(ROUNDS if found else 0):
        moved = max([_balance(weights, pair) for pair in found])
        if moved < CONVERGED:
            break
    weights.write()
    return equal, len(found)


def equalise_activations(
    model: onnx.ModelProto, peaks: Mapping[str, NDArray[np.float64]]
) -> onnx.ModelProto:
    """A copy whose channels' ranges differ by the square root only of what they did.

    `peaks` by the tensors that `carriers` names. With weights quantised channel by channel it is
    the activations' single scale that loses the small channels; the root leaves the second
    layer's weights, whose rows take the other half, a like share of the burden.
    """
    equal = onnx.ModelProto()
    equal.CopyFrom(model)
    _own_constants(equal.graph)
    weights, wiring = _Weights(equal.graph), wire(equal.graph)
    for pair in list(find_pairs(equal.graph)):
        peak = peaks[_carrier(pair, wiring)]
        alive = peak > 0
        if alive.any():
            factor = np.ones_like(peak)
            factor[alive] = np.sqrt(peak[alive])
            # The geometric mean is 1, so that the scales of layers neither grow nor shrink.
            factor[alive] /= np.exp(np.log(factor[alive]).mean())
            _rescale(weights, pair, np.clip(factor, 1 / MAX_FACTOR, MAX_FACTOR))
    weights.write()
    return equal


def carriers(model: onnx.ModelProto) -> list[str]:
    """Per pair the tensor [N, channels, ...] that is quantised between its layers."""
    wiring = wire(model.graph)
    return [_carrier(pair, wiring) for pair in find_pairs(model.graph)]


def open_clips(model: onnx.ModelProto) -> tuple[onnx.ModelProto, int]:
    """A copy with ReLU in the place of ReLU6 and the like, and how many there were.

    No factor passes through an upper bound. Whether the model can do without is for the scores
    to say: this changes what it computes.
    """
    opened = onnx.ModelProto()
    opened.CopyFrom(model)
    wiring, count = wire(opened.graph), 0
    for node in opened.graph.node:
        if node.op_type == "Clip" and _starts_at_zero(node, wiring):
            node.op_type = "Relu"
            del node.input[1:]
            del node.attribute[:]
            count += 1
    return opened, count


def find_pairs(graph: onnx.GraphProto) -> Iterator[Pair]:
    """All pairs that can be equalised, in the order of the graph."""
    wiring = wire(graph)
    shapes = {v.name: v for v in (*graph.input, *graph.value_info, *graph.output)}
    for node in graph.node:
        if node.op_type in LAYERS and has_plain_weights(node, wiring):
            reached = _follow(node, wiring, shapes)
            if reached is not None and not _is_last(reached.second, wiring):
                yield reached


def _follow(
    first: onnx.NodeProto, wiring: Wiring, shapes: dict[str, onnx.ValueInfoProto]
) -> Pair | None:
    tensor, spread = first.output[0], 1
    while True:
        node = wiring.only_reader(tensor)
        if node is None or node.input[0] != tensor:
            return None
        if node.op_type in LAYERS:
            fits = has_plain_weights(node, wiring) and (
                _inputs_of(node, wiring) == _channels_of(first, wiring) * spread
            )
            return Pair(first, node, spread) if fits else None
        if node.op_type in FLATTENING:
            count = _flattened(node, shapes)
            channels = _channels_of(first, wiring)
            if count is None or count % channels or spread != 1:
                return None
            spread = count // channels
        elif node.op_type not in SCALABLE:
            return None
        tensor = node.output[0]


def _flattened(node: onnx.NodeProto, shapes: dict[str, onnx.ValueInfoProto]) -> int | None:
    """How many values a sample has after [N, C, H, W] -> [N, C * H * W]; None for other shapes."""
    before, after = _dims(shapes.get(node.input[0])), _dims(shapes.get(node.output[0]))
    if before is None or len(before) < 3 or any(size < 1 for size in before[1:]):
        return None
    count = int(np.prod(before[1:]))
    plain = after is not None and len(after) == 2 and after[1] in (count, -1)
    return count if plain else None


def _dims(value: onnx.ValueInfoProto | None) -> list[int] | None:
    if value is None or not value.type.tensor_type.HasField("shape"):
        return None
    dims = value.type.tensor_type.shape.dim
    return [dim.dim_value if dim.HasField("dim_value") else -1 for dim in dims]


def has_plain_weights(node: onnx.NodeProto, wiring: Wiring) -> bool:
    """Weights and bias are float32 constants; a Gemm scales nothing and transposes no input."""
    names = [name for name in node.input[1:] if name]
    arrays = [wiring.array(name) for name in names]
    if not arrays or any(a is None or a.dtype != np.float32 for a in arrays):
        return False
    if node.op_type == "Conv":
        return True
    plain = attribute(node, "alpha", 1.0) == 1.0 and attribute(node, "beta", 1.0) == 1.0
    bias_fits = len(arrays) < 2 or arrays[1] is None or arrays[1].ndim == 1
    return plain and bias_fits and not attribute(node, "transA", 0)


def _channels_of(node: onnx.NodeProto, wiring: Wiring) -> int:
    shape = wiring.constants[node.input[1]].dims
    if node.op_type == "Gemm" and not attribute(node, "transB", 0):
        return int(shape[1])
    return int(shape[0])


def _inputs_of(node: onnx.NodeProto, wiring: Wiring) -> int:
    shape = wiring.constants[node.input[1]].dims
    if node.op_type == "Conv":
        return int(shape[1]) * int(attribute(node, "group", 1))
    return int(shape[1] if attribute(node, "transB", 0) else shape[0])


def _is_last(node: onnx.NodeProto, wiring: Wiring) -> bool:
    """Whether no other layer reads what comes of it."""
    front, seen = [node], {node.output[0]}
    while front:
        for name in front.pop().output:
            for reader in wiring.readers.get(name, ()):
                if reader.op_type in LAYERS | {"MatMul", "ConvTranspose"}:
                    return False
                if reader.output[0] not in seen:
                    seen.add(reader.output[0])
                    front.append(reader)
    return True


def _starts_at_zero(node: onnx.NodeProto, wiring: Wiring) -> bool:
    low = wiring.array(node.input[1]) if len(node.input) > 1 else None
    return low is not None and low.size == 1 and float(low.reshape(-1)[0]) == 0.0


def _own_constants(graph: onnx.GraphProto) -> None:
    """A weight that several layers share is copied: factors are of one layer each."""
    constants = {tensor.name: tensor for tensor in graph.initializer}
    taken: set[str] = set()
    for node in graph.node:
        if node.op_type not in LAYERS:
            continue
        for i, name in enumerate(node.input):
            if name in taken and name in constants:
                copy = onnx.TensorProto()
                copy.CopyFrom(constants[name])
                copy.name = f"{name}/{node.output[0]}"
                graph.initializer.append(copy)
                node.input[i] = copy.name
            taken.add(name)


class _Weights:
    """The layers' weights as arrays with channels in front; written back once, at the end."""

    def __init__(self, graph: onnx.GraphProto) -> None:
        self._tensors = {tensor.name: tensor for tensor in graph.initializer}
        self._arrays: dict[str, NDArray[np.float64]] = {}

    def get(self, name: str) -> NDArray[np.float64]:
        if name not in self._arrays:
            self._arrays[name] = numpy_helper.to_array(self._tensors[name]).astype(np.float64)
        return self._arrays[name]

    def write(self) -> None:
        for name, array in self._arrays.items():
            tensor = numpy_helper.from_array(array.astype(np.float32), name)
            self._tensors[name].CopyFrom(tensor)


def _balance(weights: _Weights, pair: Pair) -> float:
    """One step for one pair; returns how far its largest factor was from 1."""
    ours = np.abs(_outgoing(weights.get(pair.first.input[1]), pair.first)).max(axis=1)
    into = _incoming(weights.get(pair.second.input[1]), pair)
    theirs = np.abs(into).max(axis=(2, 3)).reshape(-1)
    alive = (ours > 0) & (theirs > 0)
    factor = np.ones_like(ours)
    factor[alive] = np.sqrt(ours[alive] / theirs[alive])
    factor = np.clip(factor, 1 / MAX_FACTOR, MAX_FACTOR)
    _rescale(weights, pair, factor)
    return float(np.abs(np.log(factor)).max(initial=0.0))


def _rescale(weights: _Weights, pair: Pair, factor: NDArray[np.float64]) -> None:
    """Divide the first layer's channels by `factor`; the second's weights make up for it."""
    out = _outgoing(weights.get(pair.first.input[1]), pair.first)
    into = _incoming(weights.get(pair.second.input[1]), pair)
    out /= factor[:, np.newaxis]
    into *= factor.reshape(*into.shape[:2], 1, 1)
    if len(pair.first.input) > 2 and pair.first.input[2]:
        bias = weights.get(pair.first.input[2])
        bias /= factor


def _carrier(pair: Pair, wiring: Wiring) -> str:
    answer: str = pair.first.output[0]
    reader = wiring.only_reader(answer)
    if reader is not None and reader.op_type in {"Relu", "LeakyRelu"}:
        answer = reader.output[0]
    return answer


def _outgoing(array: NDArray[np.float64], node: onnx.NodeProto) -> NDArray[np.float64]:
    """A view of the weights [channels out, rest]."""
    if node.op_type == "Gemm" and not attribute(node, "transB", 0):
        columns: NDArray[np.float64] = array.T
        return columns
    view: NDArray[np.float64] = array.reshape(len(array), -1)
    return view


def _incoming(array: NDArray[np.float64], pair: Pair) -> NDArray[np.float64]:
    """A view of the second layer's weights [groups, channels in of a group, rest, rest]."""
    node = pair.second
    if node.op_type == "Gemm":
        transposed = bool(attribute(node, "transB", 0))
        rows: NDArray[np.float64] = array.T if transposed else array
        view: NDArray[np.float64] = rows.reshape(1, -1, pair.spread, rows.shape[1])
        return view
    groups = int(attribute(node, "group", 1))
    split = array.reshape(groups, len(array) // groups, array.shape[1], -1)
    view = split.transpose(0, 2, 1, 3)
    return view
