"""Small ONNX models and sample files for the converter's tests, built and trained here, seeded.

The classifier's convolutions are drawn and its last layer is fitted, so that it tells the five
kinds of `images` apart, and an int8 model that does not has lost something.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

CLASSES = 5
SIZE = 8
INPUT, OUTPUT = "image", "scores"
Array = NDArray[Any]


def rng(seed: int = 7) -> np.random.Generator:
    """A generator of its own for each use, so that no test depends on another's draws."""
    return np.random.default_rng(seed)


def weight(name: str, *shape: int, seed: int = 1, scale: float = 0.4) -> onnx.TensorProto:
    """A float32 initialiser of normal draws."""
    values = rng(seed + sum(shape)).normal(0, scale, shape).astype(np.float32)
    return numpy_helper.from_array(values, name)


def tensor(name: str, *dims: int | str, kind: int = TensorProto.FLOAT) -> onnx.ValueInfoProto:
    """A graph input or output; a str is a dynamic dimension."""
    return helper.make_tensor_value_info(name, kind, list(dims))


def model(
    nodes: Sequence[onnx.NodeProto],
    inputs: Sequence[onnx.ValueInfoProto],
    outputs: Sequence[onnx.ValueInfoProto],
    weights: Sequence[onnx.TensorProto],
    *,
    opset: int = 17,
    ir_version: int = 8,
    domains: Sequence[str] = (),
) -> onnx.ModelProto:
    """A model of one graph in the default domain, plus imports of `domains`."""
    graph = helper.make_graph(list(nodes), "test", list(inputs), list(outputs), list(weights))
    imports = [helper.make_opsetid("", opset), *(helper.make_opsetid(d, 1) for d in domains)]
    return helper.make_model(graph, opset_imports=imports, ir_version=ir_version)


def classifier(
    *,
    seed: int = 1,
    opset: int = 17,
    batch: int | str = "N",
    norm: bool = True,
    imbalance: float = 1.0,
) -> onnx.ModelProto:
    """Two convolutions, the first with batch norm, pooling, a fitted dense layer, softmax.

    `imbalance` makes one channel so many times larger and undoes it in the next layer: float32
    does not notice, int8 has one scale for all channels and loses the others.
    """
    made = _untrained(seed, opset, batch, norm)
    for name, values in zip(("d.w", "d.b"), _fitted_dense(seed, norm), strict=True):
        replace_weight(made, name, values)
    if imbalance != 1.0:
        _scale_weight(made, "g", np.s_[0], imbalance)
        _scale_weight(made, "b", np.s_[0], imbalance)
        _scale_weight(made, "c2.w", np.s_[:, 0], 1 / imbalance)
    return made


def _untrained(seed: int, opset: int, batch: int | str, norm: bool) -> onnx.ModelProto:
    nodes = [
        helper.make_node("Conv", [INPUT, "c1.w"], ["c1"], pads=[1, 1, 1, 1], name="c1"),
        helper.make_node("BatchNormalization", ["c1", "g", "b", "m", "v"], ["n1"], name="n1")
        if norm
        else helper.make_node("Identity", ["c1"], ["n1"], name="n1"),
        helper.make_node("Relu", ["n1"], ["r1"], name="r1", doc_string="/home/somebody/train.py"),
        helper.make_node("Conv", ["r1", "c2.w", "c2.b"], ["c2"], strides=[2, 2], name="c2"),
        helper.make_node("Relu", ["c2"], ["r2"], name="r2"),
        helper.make_node("GlobalAveragePool", ["r2"], ["p"], name="p"),
        helper.make_node("Flatten", ["p"], ["f"], name="f"),
        helper.make_node("MatMul", ["f", "d.w"], ["mm"], name="mm"),
        helper.make_node("Add", ["mm", "d.b"], ["logits"], name="add"),
        helper.make_node("Softmax", ["logits"], [OUTPUT], name="softmax", axis=1),
    ]
    weights = [
        weight("c1.w", 6, 1, 3, 3, seed=seed),
        weight("c2.w", 12, 6, 3, 3, seed=seed),
        weight("c2.b", 12, seed=seed),
        weight("d.w", 12, CLASSES, seed=seed),
        weight("d.b", CLASSES, seed=seed),
    ]
    if norm:
        weights += [weight(name, 6, seed=seed) for name in "gbm"]
        weights.append(numpy_helper.from_array(np.full(6, 0.8, np.float32), "v"))
    made = model(
        nodes,
        [tensor(INPUT, batch, 1, SIZE, SIZE)],
        [tensor(OUTPUT, batch, CLASSES)],
        weights,
        opset=opset,
    )
    made.doc_string = "exported by somebody"
    return made


def _fitted_dense(seed: int, norm: bool) -> tuple[Array, Array]:
    """Least squares from the pooled features to the kinds, on images that no test uses."""
    body = _untrained(seed, 17, "N", norm)
    del body.graph.output[:]
    body.graph.output.append(tensor("f", "N", 12))
    features = run(body, image=images(500, seed=99))[0].astype(np.float64)
    wide = np.hstack([features, np.ones((len(features), 1))])
    wanted = 12.0 * np.eye(CLASSES)[kinds(500)]
    solution = np.linalg.lstsq(wide, wanted, rcond=None)[0].astype(np.float32)
    return solution[:-1], solution[-1]


def replace_weight(made: onnx.ModelProto, name: str, values: Array) -> None:
    """Put other values into an initialiser."""
    found = next(item for item in made.graph.initializer if item.name == name)
    found.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(values), name))


def _scale_weight(made: onnx.ModelProto, name: str, part: Any, factor: float) -> None:
    values = next(
        numpy_helper.to_array(item).copy() for item in made.graph.initializer if item.name == name
    )
    values[part] *= np.float32(factor)
    replace_weight(made, name, values)


def regressor() -> onnx.ModelProto:
    """Two inputs, one output of two float numbers a sample and one of a single number."""
    nodes = [
        helper.make_node("Gemm", ["left", "l.w"], ["l"]),
        helper.make_node("Gemm", ["right", "r.w"], ["r"]),
        helper.make_node("Add", ["l", "r"], ["sum"]),
        helper.make_node("Relu", ["sum"], ["hidden"]),
        helper.make_node("Gemm", ["hidden", "p.w"], ["place"]),
        helper.make_node("Gemm", ["hidden", "s.w"], ["size"]),
    ]
    weights = [
        weight("l.w", 12, 16),
        weight("r.w", 3, 16),
        weight("p.w", 16, 2),
        weight("s.w", 16, 1),
    ]
    return model(
        nodes,
        [tensor("left", "N", 12), tensor("right", "N", 3)],
        [tensor("place", "N", 2), tensor("size", "N", 1)],
        weights,
    )


def detector() -> onnx.ModelProto:
    """Scores of a class, and a box that channels of another size make: one scale loses it."""
    hidden = rng(1).normal(0, 0.4, (8, 16)).astype(np.float32)
    hidden[:, 8:] *= np.float32(1e-4)
    scores, box = (rng(seed).normal(0, 0.4, (16, 4)).astype(np.float32) for seed in (2, 3))
    scores[8:], box[:8] = 0, 0
    box[8:] *= np.float32(1e4)
    nodes = [
        helper.make_node("Gemm", ["x", "hidden"], ["h"]),
        helper.make_node("Relu", ["h"], ["r"]),
        helper.make_node("Gemm", ["r", "scores.w"], ["scores"]),
        helper.make_node("Gemm", ["r", "box.w"], ["flat"]),
        helper.make_node("Reshape", ["flat", "corners"], ["box"]),
    ]
    named = {"hidden": hidden, "scores.w": scores, "box.w": box, "corners": np.array([-1, 2, 2])}
    return model(
        nodes,
        [tensor("x", "N", 8)],
        [tensor("scores", "N", 4), tensor("box", "N", 2, 2)],
        [numpy_helper.from_array(values, name) for name, values in named.items()],
    )


def images(count: int, seed: int = 3) -> Array:
    """float32 [count, 1, 8, 8] in 0..1, no two alike, of the five kinds by turns."""
    rows, columns = np.mgrid[0:SIZE, 0:SIZE]
    plane = [rows % 2, columns % 2, rows % 4 // 2, columns % 4 // 2, (rows + columns) % 2]
    patterns = np.stack(plane).astype(np.float32)[kinds(count), np.newaxis]
    noise = rng(seed).random((count, 1, SIZE, SIZE), dtype=np.float32)
    return np.asarray(0.6 * patterns + 0.4 * noise, dtype=np.float32)


def kinds(count: int) -> Array:
    """int64 [count]: which kind each of `images` is."""
    return np.arange(count) % CLASSES


def run(data: bytes | onnx.ModelProto, **inputs: Array) -> list[Array]:
    """The model's outputs through plain onnxruntime."""
    import onnxruntime

    content = data if isinstance(data, bytes) else data.SerializeToString()
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    answers: list[Array] = session.run(None, inputs)
    return answers


def save(path: Path, made: onnx.ModelProto) -> Path:
    """The model as a file; returns its path."""
    path.write_bytes(made.SerializeToString())
    return path


def save_samples(path: Path, **arrays: Array) -> Path:
    """The arrays as an .npz; returns its path."""
    with path.open("wb") as file:
        np.savez(file, **arrays)  # type: ignore[arg-type]  # stub reads ** as allow_pickle too
    return path
