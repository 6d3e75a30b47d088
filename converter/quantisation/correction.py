"""Bias correction: rounding a layer's weights moves its mean answer, and its bias moves it back.

After Nagel et al. (ICCV 2019), section 4.2, with the layer's true inputs in the place of their
estimated mean: a copy of the model runs each layer once more with the rounding errors of its
weights, and what that gives on average is taken off the bias. A layer's correction depends on what
comes before it only, so retraining the last layer leaves the others where they are.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from converter.quantisation.calibration import Probe, batches
from converter.quantisation.equalisation import has_plain_weights
from converter.quantisation.graph import Wiring, attribute, wire
from converter.samples import Samples

LAYERS = frozenset({"Conv", "Gemm"})
_ERROR = "/rounding"


@dataclass(frozen=True)
class Errors:
    """What rounding does to layers' answers over `count` samples.

    `sums`: by a layer's answer float64 [channels], the mean of each sample's error, summed.
    """

    sums: Mapping[str, NDArray[np.float64]]
    count: int

    def merged(self, other: Errors) -> Errors:
        """Over both sets of samples together."""
        sums = {name: total + other.sums.get(name, 0.0) for name, total in self.sums.items()}
        return Errors(sums, self.count + other.count)


def correct_biases(model: onnx.ModelProto, errors: Errors) -> onnx.ModelProto:
    """A copy whose biases make up for int8 weights, by their `rounding_errors`."""
    corrected = onnx.ModelProto()
    corrected.CopyFrom(model)
    wiring = wire(corrected.graph)
    shared = _shared_biases(corrected.graph)
    for node in corrected.graph.node:
        total = errors.sums.get(node.output[0])
        if total is not None and not shared & set(node.input[2:]):
            _shift_bias(corrected.graph, node, total / errors.count, wiring)
    return corrected


def rounding_error(weights: NDArray[np.float32], axis: int) -> NDArray[np.float32]:
    """What int8 makes of `weights`, one scale a channel of `axis`, minus the weights themselves."""
    others = tuple(i for i in range(weights.ndim) if i != axis)
    scale = np.abs(weights).max(axis=others, keepdims=True) / np.float32(127)
    steps = np.round(weights / np.where(scale > 0, scale, np.float32(1)))
    return np.asarray(steps * scale - weights, dtype=np.float32)


def rounding_errors(
    model: onnx.ModelProto, samples: Samples, places: NDArray[np.int64], batch: int
) -> Errors:
    """Of each layer, on the samples at `places`; `batch` is 1 or any number, which is -1."""
    doubled, errors = _with_error_layers(model)
    probe = Probe(doubled, [f"{name}{_ERROR}" for name in errors])
    sums: dict[str, NDArray[np.float64]] = {}
    for inputs in batches(samples, places, probe, batch) if errors else ():
        count = len(next(iter(inputs.values())))
        for name, values in probe.values(inputs).items():
            others = tuple(i for i in range(values.ndim) if i != 1)
            mean = count * values.mean(axis=others, dtype=np.float64)
            layer = name.removesuffix(_ERROR)
            sums[layer] = sums.get(layer, 0.0) + mean
    return Errors(sums, len(places))


def _with_error_layers(model: onnx.ModelProto) -> tuple[onnx.ModelProto, list[str]]:
    doubled = onnx.ModelProto()
    doubled.CopyFrom(model)
    wiring, names = wire(model.graph), []
    for node in model.graph.node:
        if node.op_type in LAYERS and has_plain_weights(node, wiring):
            error = onnx.NodeProto()
            error.CopyFrom(node)
            del error.input[2:]
            error.name = f"{node.name}{_ERROR}"
            error.input[1] = error.output[0] = f"{node.output[0]}{_ERROR}"
            error.input[1] += ".weights"
            weights = numpy_helper.to_array(wiring.constants[node.input[1]])
            values = rounding_error(weights, _channel_axis(node))
            doubled.graph.node.append(error)
            doubled.graph.initializer.append(numpy_helper.from_array(values, error.input[1]))
            names.append(node.output[0])
    return doubled, names


def _channel_axis(node: onnx.NodeProto) -> int:
    return 1 if node.op_type == "Gemm" and not attribute(node, "transB", 0) else 0


def _shift_bias(
    graph: onnx.GraphProto, node: onnx.NodeProto, error: NDArray[np.float64], wiring: Wiring
) -> None:
    if len(node.input) > 2 and node.input[2]:
        tensor = wiring.constants[node.input[2]]
        values = numpy_helper.to_array(tensor) - error
    else:
        tensor = graph.initializer.add()
        tensor.name = f"{node.output[0]}/bias"
        values = -error
        del node.input[2:]
        node.input.append(tensor.name)
    name = tensor.name
    tensor.CopyFrom(numpy_helper.from_array(values.astype(np.float32), name))


def _shared_biases(graph: onnx.GraphProto) -> set[str]:
    seen: set[str] = set()
    shared: set[str] = set()
    for node in graph.node:
        for name in node.input[2:]:
            (shared if name in seen else seen).add(name)
    return shared - {""}
