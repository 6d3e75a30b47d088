"""An int8 graph with other ranges, weights or biases put in: a candidate for a tenth of the time.

Owns the values that depend on them: scales and zero points of uint8 activations, int8 weights with
their scales, and the int32 biases, whose scale is the product of the input's and the weights'. For
scoring only; what ships comes whole from the quantiser.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from converter.quantisation.graph import Wiring, attribute, wire
from converter.quantise import LAYERS
from converter.ranges import Range

_LEVELS = 255
_STEPS = 127
"""Of int8 weights, each way."""
_INT8 = np.iinfo(np.int8)
_LARGEST_BIAS = 0.999 * np.iinfo(np.int32).max
"""In steps. Beyond, onnxruntime's quantiser widens the scale of the weights."""
_QUANTISED = "_quantized"
"""What onnxruntime's quantiser appends to the name of a weight."""


def retune(
    quantised: onnx.ModelProto,
    made_from: onnx.ModelProto,
    model: onnx.ModelProto,
    ranges: Mapping[str, Range],
) -> onnx.ModelProto | None:
    """A copy of `quantised`, made from `made_from`, as if made from `model` within `ranges`.

    None where that is not a matter of values: the two float models have other nodes, or differ in
    a constant that is no weight or bias here, or a bias asks for another scale of its weights.
    """
    if list(made_from.graph.node) != list(model.graph.node):
        return None
    tuned = onnx.ModelProto()
    tuned.CopyFrom(quantised)
    wiring = wire(tuned.graph)
    for name, found in ranges.items():
        if f"{name}_scale" in wiring.constants:
            scale, zero_point = _parameters(found)
            _put(wiring, f"{name}_scale", scale)
            _put(wiring, f"{name}_zero_point", zero_point)
    changed = _changed(made_from, model)
    done: set[str] = set()
    for node in tuned.graph.node:
        if node.op_type in LAYERS:
            done |= _retune_weights(wiring, node, changed)
            bias = _retune_bias(wiring, node, model) if len(node.input) > 2 else ""
            if bias is None:
                return None
            done.add(bias)
    return tuned if changed.keys() <= done else None


def _changed(before: onnx.ModelProto, after: onnx.ModelProto) -> dict[str, NDArray[np.float32]]:
    """The constants of `after` that `before` has not, or has with other values."""
    known = {t.name: t for t in before.graph.initializer}
    return {
        t.name: numpy_helper.to_array(t)
        for t in after.graph.initializer
        if t.name not in known or t != known[t.name]
    }


def _parameters(found: Range) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    low, high = np.float32(min(found.low, 0.0)), np.float32(max(found.high, 0.0))
    scale = (np.float64(high) - np.float64(low)) / _LEVELS
    if scale < np.finfo(np.float32).tiny:
        return np.array(1, np.float32), np.array(0, np.uint8)
    return np.array(scale, np.float32), np.array(np.round(-low / scale), np.uint8)


def _retune_weights(
    wiring: Wiring, node: onnx.NodeProto, changed: Mapping[str, NDArray[np.float32]]
) -> set[str]:
    """The name of the node's weights, where they are among the `changed` and were put in."""
    restore = wiring.makers.get(node.input[1])
    if restore is None or not restore.input[0].endswith(_QUANTISED):
        return set()
    name = restore.input[0].removesuffix(_QUANTISED)
    before = wiring.array(restore.input[0])
    if name not in changed or before is None or before.dtype != np.int8:
        return set()
    axis = attribute(restore, "axis", 1) if wiring.constants[restore.input[1]].dims else None
    scale, steps = _weights(changed[name], axis)
    _put(wiring, restore.input[1], scale.reshape(wiring.constants[restore.input[1]].dims))
    _put(wiring, restore.input[0], steps)
    return {name}


def _weights(
    values: NDArray[np.float32], axis: int | None
) -> tuple[NDArray[np.float32], NDArray[np.int8]]:
    """Scales, with the rank of `values`, and steps: one scale a channel of `axis`, or one."""
    others = tuple(i for i in range(values.ndim) if i != axis)
    largest = np.abs(values).max(axis=others, keepdims=True).astype(np.float64)
    scale = largest / _STEPS
    scale = np.where(scale < np.finfo(np.float32).tiny, 1.0, scale).astype(np.float32)
    steps = np.clip(np.round(values / scale), _INT8.min, _INT8.max)
    return scale, steps.astype(np.int8)


def _retune_bias(wiring: Wiring, node: onnx.NodeProto, model: onnx.ModelProto) -> str | None:
    """The bias that was put in, or nothing where it is none; None where its scale does not do."""
    restore = wiring.makers.get(node.input[2])
    if restore is None or not restore.input[0].endswith(_QUANTISED):
        return ""
    name: str = restore.input[0].removesuffix(_QUANTISED)
    given = (t for t in model.graph.initializer if t.name == name)
    values = next((numpy_helper.to_array(tensor) for tensor in given), None)
    scales = [_scale(wiring, tensor) for tensor in node.input[:2]]
    if values is None or scales[0] is None or scales[1] is None:
        return ""
    scale = np.asarray(scales[0] * scales[1], np.float32)
    steps = np.round(values.astype(np.float64) / np.asarray(scale, np.float64))
    if np.abs(steps).max(initial=0) > _LARGEST_BIAS:
        return None
    _put(wiring, restore.input[1], scale.reshape(wiring.constants[restore.input[1]].dims))
    _put(wiring, restore.input[0], steps.astype(np.int32))
    return name


def _scale(wiring: Wiring, tensor: str) -> NDArray[np.float32] | None:
    maker = wiring.makers.get(tensor)
    if maker is None or maker.op_type != "DequantizeLinear":
        return None
    return wiring.array(maker.input[1])


def _put(wiring: Wiring, name: str, values: NDArray[np.generic]) -> None:
    wiring.constants[name].CopyFrom(numpy_helper.from_array(values, name))
