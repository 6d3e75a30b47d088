"""Ranges for tests that quantise without the search: minimum and maximum of a few samples."""

from __future__ import annotations

import onnx

from converter.quantisation.calibration import activations, observe
from converter.quantisation.thresholds import choose_range
from converter.ranges import Range
from converter.samples import Samples


def inferred(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model with the shapes of its inner tensors, and a name for each node."""
    made: onnx.ModelProto = onnx.shape_inference.infer_shapes(model)
    for node in made.graph.node:
        node.name = node.name or f"{node.op_type}:{node.output[0]}"
    return made


def plain_ranges(model: onnx.ModelProto, samples: Samples) -> dict[str, Range]:
    """Of every activation of an inferred model."""
    fit, held = observe(model, samples, -1, lambda share: None)
    watched = fit.merged(held)
    return {name: choose_range(watched.of(name), "minmax") for name in activations(model)}
