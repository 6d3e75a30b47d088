"""The same float function with its channels spread: what int8 per tensor cannot hold.

Consecutive layers are rescaled by powers of two from 1/16 to 16, drawn for each channel, and the
next layer undoes it: float32 does not notice by a single bit. Networks grow such ranges of their
own under batch norm folding; here they are made to measure. Chain of layers as in `train.py`.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import onnx
from onnx import numpy_helper

MAX_EXPONENT = 4
SEED = 5


def spread(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy whose convolutions, all but the last layer's inputs, are spread by 1/16..16."""
    made = onnx.ModelProto()
    made.CopyFrom(model)
    tensors = {tensor.name: tensor for tensor in made.graph.initializer}
    layers = [node for node in made.graph.node if node.op_type == "Conv"]
    random = np.random.RandomState(SEED)  # frozen by numpy: the same stream in each version
    for first, second in pairwise(layers):
        channels = tensors[first.input[1]].dims[0]
        exponents = random.randint(-MAX_EXPONENT, MAX_EXPONENT + 1, size=channels)
        factor = np.ldexp(np.float32(1), exponents).astype(np.float32)
        _scale(tensors[first.input[1]], factor.reshape(-1, 1, 1, 1))
        _scale(tensors[first.input[2]], factor)
        depthwise = tensors[second.input[1]].dims[1] == 1
        shape = (-1, 1, 1, 1) if depthwise else (1, -1, 1, 1)
        _scale(tensors[second.input[1]], (1 / factor).reshape(shape))
    return made


def _scale(
    tensor: onnx.TensorProto, factor: np.ndarray[tuple[int, ...], np.dtype[np.float32]]
) -> None:
    values = numpy_helper.to_array(tensor) * factor
    tensor.CopyFrom(numpy_helper.from_array(values.astype(np.float32), tensor.name))
