"""An int8 graph with other ranges or biases put in: a candidate for a tenth of the time.

Owns the values that depend on them: scales and zero points of uint8 activations, and the int32
biases, whose scale is the product of the input's and the weights'. For scoring only; what ships
comes whole from the quantiser.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from converter.quantisation.graph import Wiring, wire
from converter.quantise import LAYERS
from converter.ranges import Range

_LEVELS = 255
_INT32 = np.iinfo(np.int32)
_QUANTISED = "_quantized"
"""What onnxruntime's quantiser appends to the name of a weight."""


def retune(
    quantised: onnx.ModelProto, model: onnx.ModelProto, ranges: Mapping[str, Range]
) -> onnx.ModelProto | None:
    """A copy of `quantised` as if made from `model` within `ranges`; weights stay as they are.

    None where that is not a matter of values: the float model has a bias that `quantised` lacks.
    """
    tuned = onnx.ModelProto()
    tuned.CopyFrom(quantised)
    wiring = wire(tuned.graph)
    for name, found in ranges.items():
        if f"{name}_scale" in wiring.constants:
            scale, zero_point = _parameters(found)
            _put(wiring, f"{name}_scale", scale)
            _put(wiring, f"{name}_zero_point", zero_point)
    biases = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
    counts = {node.name: len(node.input) for node in model.graph.node}
    for node in tuned.graph.node:
        if node.op_type in LAYERS:
            if counts.get(node.name) != len(node.input):
                return None
            if len(node.input) > 2:
                _retune_bias(wiring, node, biases)
    return tuned


def _parameters(found: Range) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    low, high = np.float32(min(found.low, 0.0)), np.float32(max(found.high, 0.0))
    scale = (np.float64(high) - np.float64(low)) / _LEVELS
    if scale < np.finfo(np.float32).tiny:
        return np.array(1, np.float32), np.array(0, np.uint8)
    return np.array(scale, np.float32), np.array(np.round(-low / scale), np.uint8)


def _retune_bias(
    wiring: Wiring, node: onnx.NodeProto, biases: Mapping[str, NDArray[np.float32]]
) -> None:
    restore = wiring.makers.get(node.input[2])
    if restore is None or not restore.input[0].endswith(_QUANTISED):
        return
    values = biases.get(restore.input[0].removesuffix(_QUANTISED))
    scales = [_scale(wiring, name) for name in node.input[:2]]
    if values is None or scales[0] is None or scales[1] is None:
        return
    scale = np.asarray(scales[0] * scales[1], np.float32)
    steps = np.round(values.astype(np.float64) / np.asarray(scale, np.float64))
    _put(wiring, restore.input[1], scale.reshape(wiring.constants[restore.input[1]].dims))
    _put(wiring, restore.input[0], np.clip(steps, _INT32.min, _INT32.max).astype(np.int32))


def _scale(wiring: Wiring, tensor: str) -> NDArray[np.float32] | None:
    maker = wiring.makers.get(tensor)
    if maker is None or maker.op_type != "DequantizeLinear":
        return None
    return wiring.array(maker.input[1])


def _put(wiring: Wiring, name: str, values: NDArray[np.generic]) -> None:
    wiring.constants[name].CopyFrom(numpy_helper.from_array(values, name))
