"""Float .tflite models for the tests, built table by table, without TensorFlow.

The classifier's convolution is drawn and its last layer is fitted to scikit-learn's digits, so that
it is a model of some worth, and an int8 model that is not has lost something.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from numpy.typing import NDArray
from sklearn.datasets import load_digits

from converter.samples import Samples
from converter.tflite.flatbuffer import pack, parse
from converter.tflite.runner import TfliteRunner

Array = NDArray[Any]
FILTERS, CLASSES = 16, 10
CALIBRATION = 400
B = schema.BuiltinOperator


@cache
def digits() -> tuple[Array, Array]:
    """float32 [1797, 8, 8, 1] in 0..1, int64 [1797]; the last 600 are no one's training data."""
    found = load_digits()
    images = (found.images / 16).astype(np.float32)[..., np.newaxis]
    return images, found.target.astype(np.int64)


def calibration() -> Samples:
    """Without labels, as calibration should be."""
    return Samples("calib", {"image": digits()[0][:CALIBRATION]})


def evaluation() -> Samples:
    """Labelled scans that neither training nor calibration has seen."""
    images, labels = digits()
    return Samples("eval", {"image": images[1200:]}, labels[1200:])


class Graph:
    """One graph that grows; `bytes` hands it out as a file."""

    def __init__(self) -> None:
        self.model = schema.ModelT()
        self.model.version = 3
        self.model.buffers = [schema.BufferT()]
        self.model.operatorCodes = []
        self.graph = schema.SubGraphT()
        self.graph.tensors, self.graph.operators = [], []
        self.model.subgraphs = [self.graph]

    def tensor(self, name: str, shape: list[int], values: Array | None = None) -> int:
        """A float32 tensor, or a constant of the values' own type."""
        made = schema.TensorT()
        made.name, made.shape = name.encode(), [abs(n) for n in shape]
        made.buffer = 0
        if values is None:
            made.shapeSignature = shape
        else:
            made.type = {"f": schema.TensorType.FLOAT32, "i": schema.TensorType.INT32}[
                values.dtype.kind
            ]
            made.buffer = len(self.model.buffers)
            self.model.buffers.append(schema.BufferT())
            self.model.buffers[-1].data = np.frombuffer(values.tobytes(), np.uint8)
        self.graph.tensors.append(made)
        return len(self.graph.tensors) - 1

    def operator(
        self, code: int, inputs: list[int], output: int, kind: int = 0, options: Any = None
    ) -> None:
        """One more operator, in order of computation."""
        made = schema.OperatorCodeT()
        made.builtinCode, made.deprecatedBuiltinCode, made.version = code, min(code, 127), 1
        self.model.operatorCodes.append(made)
        node = schema.OperatorT()
        node.opcodeIndex, node.inputs, node.outputs = (
            len(self.model.operatorCodes) - 1,
            inputs,
            [output],
        )
        node.builtinOptionsType, node.builtinOptions = kind, options
        self.graph.operators.append(node)

    def bytes(self, inputs: list[int], outputs: list[int]) -> bytes:
        self.graph.inputs, self.graph.outputs = inputs, outputs
        return pack(self.model)


@cache
def classifier(batch: int = -1) -> bytes:
    """image [batch, 8, 8, 1] -> scores [batch, 10]: convolution, dense, softmax; no signature."""
    return _network(batch, *_fitted())


@cache
def normalised() -> bytes:
    """The same behind a mean and a deviation for each pixel, as Keras' Normalization exports."""
    return _network(-1, *_fitted(normal=True), normal=True)


def _normalise(g: Graph, image: int, batch: int) -> int:
    drawn = np.random.default_rng(2)
    deviation = drawn.uniform(0.5, 1.5, (8, 8, 1)).astype(np.float32)
    scaled, centred = g.tensor("scaled", [batch, 8, 8, 1]), g.tensor("centred", [batch, 8, 8, 1])
    mean = drawn.normal(-0.3, 0.1, (8, 8, 1)).astype(np.float32)
    factors, offsets = g.tensor("1/std", [8, 8, 1], deviation), g.tensor("-mean", [8, 8, 1], mean)
    kinds = schema.BuiltinOptions
    g.operator(B.MUL, [image, factors], scaled, kinds.MulOptions, schema.MulOptionsT())
    g.operator(B.ADD, [scaled, offsets], centred, kinds.AddOptions, schema.AddOptionsT())
    return centred


def _network(
    batch: int, weights: Array | None, bias: Array | None, *, normal: bool = False
) -> bytes:
    g = Graph()
    drawn = np.random.default_rng(1)
    image = g.tensor("serving_default_image:0", [batch, 8, 8, 1])
    plain = _normalise(g, image, batch) if normal else image
    kernel = drawn.normal(0, 0.4, (FILTERS, 3, 3, 1)).astype(np.float32)
    kernel_place = g.tensor("a/very/long/name;that/an/exporter/gave", list(kernel.shape), kernel)
    offsets = g.tensor("offsets", [FILTERS], drawn.normal(0, 0.1, FILTERS).astype(np.float32))
    plane = g.tensor("plane", [batch, 4, 4, FILTERS])
    conv = schema.Conv2DOptionsT()
    conv.strideW = conv.strideH = 2
    conv.padding, conv.fusedActivationFunction = (
        schema.Padding.SAME,
        schema.ActivationFunctionType.RELU,
    )
    conv.dilationWFactor = conv.dilationHFactor = 1
    g.operator(
        B.CONV_2D, [plain, kernel_place, offsets], plane, schema.BuiltinOptions.Conv2DOptions, conv
    )
    flat = g.tensor("flat", [batch, 16 * FILTERS])
    shape = g.tensor("shape", [2], np.array([-1, 16 * FILTERS], np.int32))
    g.operator(
        B.RESHAPE,
        [plane, shape],
        flat,
        schema.BuiltinOptions.ReshapeOptions,
        schema.ReshapeOptionsT(),
    )
    if weights is None or bias is None:
        return g.bytes([image], [flat])
    dense = g.tensor("dense", [batch, CLASSES])
    w = g.tensor("w", list(weights.shape), weights)
    b = g.tensor("b", [CLASSES], bias)
    g.operator(
        B.FULLY_CONNECTED,
        [flat, w, b],
        dense,
        schema.BuiltinOptions.FullyConnectedOptions,
        schema.FullyConnectedOptionsT(),
    )
    scores = g.tensor("scores", [batch, CLASSES])
    softmax = schema.SoftmaxOptionsT()
    softmax.beta = 1.0
    g.operator(B.SOFTMAX, [dense], scores, schema.BuiltinOptions.SoftmaxOptions, softmax)
    return g.bytes([image], [scores])


@cache
def _fitted(*, normal: bool = False) -> tuple[Array, Array]:
    """Ridge regression from the convolution's answers to the digits."""
    images, labels = digits()
    body = TfliteRunner(_network(-1, None, None, normal=normal))
    train = Samples("train", {"serving_default_image:0": images[CALIBRATION:1200]})
    features = next(iter(body.run(train).values())).astype(np.float64)
    wide = np.hstack([features, np.ones((len(features), 1))])
    wanted = 8.0 * np.eye(CLASSES)[labels[CALIBRATION:1200]]
    squares = wide.T @ wide + 1.0 * np.eye(wide.shape[1])
    found = np.linalg.solve(squares, wide.T @ wanted).astype(np.float32)
    return np.ascontiguousarray(found[:-1].T), found[-1].copy()


def changed(data: bytes, change: Any) -> bytes:
    """The model after `change` has had its way with the `ModelT`."""
    model = parse(data, "model")
    change(model)
    return pack(model)


def save(path: Path, data: bytes) -> Path:
    """The model as a file; returns its path."""
    path.write_bytes(data)
    return path
