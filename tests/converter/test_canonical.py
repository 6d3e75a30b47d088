"""The one form of a float model: same answers, opset 17, IR 8, nothing that can be folded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from converter.canonical import canonicalise, fix_batch, require_same
from converter.errors import ModelChanged, UnsupportedOpset
from converter.source import read_source
from tests.converter import models


def canonical(tmp_path: Path, made: onnx.ModelProto) -> onnx.ModelProto:
    source = read_source(models.save(tmp_path / "in.onnx", made))
    return canonicalise(source, tmp_path)


def kinds(made: onnx.ModelProto) -> list[str]:
    return [node.op_type for node in made.graph.node]


def test_batch_norm_and_dense_layers_are_folded(tmp_path: Path) -> None:
    found = kinds(canonical(tmp_path, models.classifier()))
    assert "BatchNormalization" not in found
    assert "MatMul" not in found
    assert found.count("Gemm") == 1


@pytest.mark.parametrize("opset", [11, 13, 17, 18, 20])
def test_every_opset_becomes_17_with_the_same_answers(tmp_path: Path, opset: int) -> None:
    made = models.classifier(opset=opset)
    found = canonical(tmp_path, made)
    assert [(o.domain, o.version) for o in found.opset_import] == [("", 17)]
    assert found.ir_version == 8
    images = models.images(8)
    before, after = models.run(made, image=images)[0], models.run(found, image=images)[0]
    np.testing.assert_allclose(before, after, atol=1e-5)


def test_a_reduction_as_pytorch_writes_it_comes_down_from_18(tmp_path: Path) -> None:
    mean = helper.make_node(
        "ReduceMean", ["image", "axes"], ["y"], keepdims=0, noop_with_empty_axes=0
    )
    made = models.model(
        [mean],
        [models.tensor("image", "N", 1, 8, 8)],
        [models.tensor("y", "N", 1)],
        [numpy_helper.from_array(np.array([2, 3]), "axes")],
        opset=18,
    )
    images = models.images(4)
    before = models.run(made, image=images)[0]
    after = models.run(canonical(tmp_path, made), image=images)[0]
    np.testing.assert_allclose(before, after, atol=1e-6)


def test_an_operator_that_17_lacks_is_refused(tmp_path: Path) -> None:
    made = models.model(
        [helper.make_node("Gelu", ["x"], ["y"])],
        [models.tensor("x", "N", 4)],
        [models.tensor("y", "N", 4)],
        [],
        opset=20,
    )
    with pytest.raises(UnsupportedOpset, match="opset_version=17"):
        canonical(tmp_path, made)


def test_weights_listed_as_inputs_are_folded_like_others(tmp_path: Path) -> None:
    made = models.classifier()
    for name, size in (("g", 6), ("b", 6), ("m", 6), ("v", 6)):
        made.graph.input.append(models.tensor(name, size))
    found = canonical(tmp_path, made)
    assert [value.name for value in found.graph.input] == ["image"]
    assert "BatchNormalization" not in kinds(found)


def test_the_source_itself_is_not_changed(tmp_path: Path) -> None:
    source = read_source(models.save(tmp_path / "in.onnx", models.classifier(opset=13)))
    before = source.proto.SerializeToString()
    canonicalise(source, tmp_path)
    assert source.proto.SerializeToString() == before


def test_rounding_is_no_change() -> None:
    answers = models.images(3)
    require_same({"y": answers}, {"y": answers + np.float32(1e-5)})


def tied() -> onnx.ModelProto:
    """One weight in both directions, and a bias that is added once more: float32 does not mind."""
    nodes = [
        helper.make_node("Gemm", ["x", "w", "b"], ["h"]),
        helper.make_node("Relu", ["h"], ["r"]),
        helper.make_node("Gemm", ["r", "w"], ["back"], transB=1),
        helper.make_node("Relu", ["back"], ["s"]),
        helper.make_node("Gemm", ["s", "w", "b"], ["t"]),
        helper.make_node("Add", ["t", "b"], ["y"]),
    ]
    weights = [models.weight("w", 8, 16), models.weight("b", 16)]
    return models.model(nodes, [models.tensor("x", "N", 8)], [models.tensor("y", "N", 16)], weights)


def test_what_serves_in_several_ways_is_untied_and_the_answers_stay(tmp_path: Path) -> None:
    made = tied()
    found = canonical(tmp_path, made)
    forth, back, again = (n for n in found.graph.node if n.op_type == "Gemm")
    (added,) = (n for n in found.graph.node if n.op_type == "Add")
    assert forth.input[1] == again.input[1] != back.input[1]
    assert len({forth.input[2], again.input[2], *added.input}) == 4
    x = models.rng(1).normal(size=(9, 8)).astype(np.float32)
    np.testing.assert_allclose(models.run(made, x=x)[0], models.run(found, x=x)[0], atol=1e-5)


def test_nothing_else_is_copied(tmp_path: Path) -> None:
    found = canonical(tmp_path, models.classifier())
    used = [name for node in found.graph.node for name in node.input]
    assert len(found.graph.initializer) == len({t.name for t in found.graph.initializer} & {*used})


def pooled(kernel: list[int], **attributes: Any) -> onnx.ModelProto:
    """Convolution, an average over `kernel`, flattened; 6 channels of 6 x 6."""
    return models.model(
        [
            helper.make_node("Conv", ["image", "w"], ["c"]),
            helper.make_node("AveragePool", ["c"], ["p"], kernel_shape=kernel, **attributes),
            helper.make_node("Flatten", ["p"], ["y"]),
        ],
        [models.tensor("image", "N", 1, 8, 8)],
        [models.tensor("y", "N", "F")],
        [models.weight("w", 6, 1, 3, 3)],
    )


def test_an_average_over_the_whole_picture_is_a_global_one(tmp_path: Path) -> None:
    made = pooled([6, 6])
    found = canonical(tmp_path, made)
    assert "GlobalAveragePool" in kinds(found)
    images = models.images(5)
    np.testing.assert_allclose(
        models.run(found, image=images)[0], models.run(made, image=images)[0], atol=1e-6
    )


@pytest.mark.parametrize(
    "made",
    [pooled([2, 2]), pooled([6, 6], pads=[1, 1, 1, 1]), pooled([6, 6], auto_pad="SAME_UPPER")],
)
def test_other_averages_stay_as_they_are(tmp_path: Path, made: onnx.ModelProto) -> None:
    assert "AveragePool" in kinds(canonical(tmp_path, made))


def test_nodes_have_names_of_their_own(tmp_path: Path) -> None:
    names = [node.name for node in canonical(tmp_path, models.classifier()).graph.node]
    assert all(names)
    assert len(set(names)) == len(names)


def test_a_batch_of_one_is_fixed_when_asked(tmp_path: Path) -> None:
    source = fix_batch(read_source(models.save(tmp_path / "in.onnx", models.classifier())))
    assert source.batch == 1
    found = canonicalise(source, tmp_path)
    assert found.graph.input[0].type.tensor_type.shape.dim[0].dim_value == 1
    image = models.images(1)
    np.testing.assert_allclose(
        models.run(found, image=image)[0],
        models.run(models.classifier(), image=image)[0],
        atol=1e-5,
    )


def test_outputs_of_every_kind_compare() -> None:
    flags, bytes_ = np.array([True, False]), np.array([0, 255], np.uint8)
    require_same({"y": flags}, {"y": flags})
    require_same({"y": bytes_}, {"y": bytes_})
    with pytest.raises(ModelChanged, match="by 1;"):
        require_same({"y": bytes_}, {"y": np.array([1, 255], np.uint8)})


def test_a_moved_output_is_named() -> None:
    answers = models.images(3)
    with pytest.raises(ModelChanged, match="'y'"):
        require_same({"y": answers}, {"y": answers + np.float32(0.1)})


def test_an_output_of_zeros_compares_with_itself() -> None:
    zeros = np.zeros((3, 2), np.float32)
    require_same({"y": zeros}, {"y": zeros})
