"""An image network and as many samples for it as are asked for: the converter's memory is at stake.

MobileNet's shape at a quarter of its width, as for visual wake words (96 x 96 x 3), with weights of
chance: how much memory a conversion takes depends on shapes, not on what was learnt. Pictures are
written as they are made, so that the benchmark itself holds few of them.
"""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

SIDE = 96
INPUT_NAME, OUTPUT_NAME = "image", "scores"
_BLOCKS = ((16, 1), (32, 2), (32, 1), (64, 2), (64, 1), (128, 2), (128, 1), (256, 2), (256, 1))
"""Channels and stride of each depthwise-separable block."""
_AT_A_TIME = 50


def network(seed: int = 0) -> onnx.ModelProto:
    """Input [N, 3, 96, 96], output [N, 10]."""
    made = _Builder(np.random.default_rng(seed))
    tensor = made.convolution(INPUT_NAME, 3, 8, stride=2)
    channels = 8
    for wider, stride in _BLOCKS:
        tensor = made.convolution(tensor, channels, channels, stride=stride, group=channels)
        tensor = made.convolution(tensor, channels, wider, kernel=1)
        channels = wider
    made.nodes.append(helper.make_node("GlobalAveragePool", [tensor], ["pooled"]))
    made.nodes.append(helper.make_node("Flatten", ["pooled"], ["flat"]))
    made.weights("dense", (10, channels), channels)
    made.nodes.append(helper.make_node("Gemm", ["flat", "dense"], [OUTPUT_NAME], transB=1))
    graph = helper.make_graph(
        made.nodes,
        "pictures",
        [helper.make_tensor_value_info(INPUT_NAME, TensorProto.FLOAT, ["N", 3, SIDE, SIDE])],
        [helper.make_tensor_value_info(OUTPUT_NAME, TensorProto.FLOAT, ["N", 10])],
        made.constants,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def write_samples(path: Path, count: int, seed: int) -> None:
    """`count` smooth pictures as the one array of an .npz."""
    chance = np.random.default_rng(seed)
    with zipfile.ZipFile(path, "w") as archive, archive.open(f"{INPUT_NAME}.npy", "w") as member:
        header = {"descr": "<f4", "fortran_order": False, "shape": (count, 3, SIDE, SIDE)}
        np.lib.format.write_array_header_1_0(member, header)
        for start in range(0, count, _AT_A_TIME):
            member.write(_pictures(min(_AT_A_TIME, count - start), chance).tobytes())


def _pictures(count: int, chance: np.random.Generator) -> NDArray[np.float32]:
    """Blocks of 8 x 8 pixels and a little noise, about 0..1."""
    coarse = chance.random((count, 3, SIDE // 8, SIDE // 8), dtype=np.float32)
    smooth = coarse.repeat(8, axis=2).repeat(8, axis=3)
    noise = chance.standard_normal(smooth.shape, dtype=np.float32)
    return np.asarray(smooth + np.float32(0.02) * noise, dtype=np.float32)


class _Builder:
    """Collects nodes and constants."""

    def __init__(self, chance: np.random.Generator) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []
        self._chance = chance

    def weights(self, name: str, shape: tuple[int, ...], fan_in: int) -> None:
        """Weights that keep the activations' size (He et al., ICCV 2015)."""
        values = self._chance.standard_normal(shape) * np.sqrt(2 / fan_in)
        self.constants.append(numpy_helper.from_array(values.astype(np.float32), name))

    def convolution(
        self,
        tensor: str,
        channels: int,
        out: int,
        *,
        kernel: int = 3,
        stride: int = 1,
        group: int = 1,
    ) -> str:
        """A convolution and a ReLU; returns the name of the answer."""
        name, each = f"c{len(self.nodes) // 2}", channels // group
        self.weights(f"{name}.weight", (out, each, kernel, kernel), each * kernel * kernel)
        pads = [kernel // 2] * 4
        node = helper.make_node(
            "Conv",
            [tensor, f"{name}.weight"],
            [name],
            strides=[stride, stride],
            pads=pads,
            group=group,
        )
        self.nodes.append(node)
        self.nodes.append(helper.make_node("Relu", [name], [f"{name}.relu"]))
        return f"{name}.relu"
