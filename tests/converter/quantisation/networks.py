"""Small float networks that equalisation, search and mixed precision are tested on."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx
from onnx import helper, numpy_helper

from converter.samples import Samples
from tests.converter import models
from tests.converter.calibrated import inferred

SIZE = 8


def chain(
    activation: str = "Relu", *, spread: Sequence[float] = (), depthwise: bool = True
) -> onnx.ModelProto:
    """Conv -> act -> (depthwise) Conv -> act -> pool -> flatten -> Gemm: 6, 6 and 4 channels.

    `spread` multiplies the first layer's channels and divides the second's weights for them.
    """
    factor = np.asarray(spread or [1.0] * 6, np.float32)
    second = (6, 1, 3, 3) if depthwise else (6, 6, 3, 3)
    w1, w2 = values("w1", 6, 1, 3, 3), values("w2", *second)
    w1, b1 = w1 * factor.reshape(-1, 1, 1, 1), values("b1", 6) * factor
    w2 = w2 / factor.reshape((-1, 1, 1, 1) if depthwise else (1, -1, 1, 1))
    weights = {"w1": w1, "b1": b1, "w2": w2, "b2": values("b2", 6), "w3": values("w3", 6, 4)}
    extra = ["zero", "six"] if activation == "Clip" else []
    nodes = [
        helper.make_node("Conv", ["image", "w1", "b1"], ["c1"], pads=[1, 1, 1, 1]),
        helper.make_node(activation, ["c1", *extra], ["r1"]),
        helper.make_node("Conv", ["r1", "w2", "b2"], ["c2"], group=6 if depthwise else 1),
        helper.make_node(activation, ["c2", *extra], ["r2"]),
        helper.make_node("GlobalAveragePool", ["r2"], ["p"]),
        helper.make_node("Flatten", ["p"], ["f"]),
        helper.make_node("Gemm", ["f", "w3"], ["scores"]),
    ]
    constants = {**weights, **({"zero": np.float32(0), "six": np.float32(6)} if extra else {})}
    made = models.model(
        nodes,
        [models.tensor("image", "N", 1, SIZE, SIZE)],
        [models.tensor("scores", "N", 4)],
        [numpy_helper.from_array(np.asarray(v, np.float32), n) for n, v in constants.items()],
    )
    return inferred(made)


def dense(*, flattened: bool = False) -> onnx.ModelProto:
    """Gemm -> ReLU -> Gemm -> ReLU -> Gemm, or Conv -> ReLU -> Flatten -> Gemm -> ReLU -> Gemm."""
    first = [
        helper.make_node("Gemm", ["image", "w1", "b1"], ["c1"], transB=1),
        helper.make_node("Relu", ["c1"], ["f"]),
    ]
    shapes = {"w1": (6, 9), "b1": (6,), "w2": (6, 5), "w3": (5, 4)}
    shape: tuple[int, ...] = (9,)
    if flattened:
        first = [
            helper.make_node("Conv", ["image", "w1", "b1"], ["c1"]),
            helper.make_node("Relu", ["c1"], ["r1"]),
            helper.make_node("Flatten", ["r1"], ["f"]),
        ]
        shapes |= {"w1": (6, 1, 3, 3), "w2": (6 * 4, 5)}
        shape = (1, 4, 4)
    nodes = [
        *first,
        helper.make_node("Gemm", ["f", "w2"], ["c2"]),
        helper.make_node("Relu", ["c2"], ["r2"]),
        helper.make_node("Gemm", ["r2", "w3"], ["scores"]),
    ]
    weights = [numpy_helper.from_array(values(n, *s), n) for n, s in shapes.items()]
    made = models.model(
        nodes, [models.tensor("image", "N", *shape)], [models.tensor("scores", "N", 4)], weights
    )
    return inferred(made)


def values(name: str, *shape: int) -> models.Array:
    """float32 draws that depend on the name."""
    seed = sum(map(ord, name))
    return np.asarray(models.rng(seed).normal(0, 0.5, shape), dtype=np.float32)


def samples(count: int = 40, seed: int = 3) -> Samples:
    """Pictures for `chain`."""
    return Samples("calib.npz", {"image": models.images(count, seed=seed)})


def constant(made: onnx.ModelProto, name: str) -> models.Array:
    """An initialiser's values."""
    return next(numpy_helper.to_array(t) for t in made.graph.initializer if t.name == name)
