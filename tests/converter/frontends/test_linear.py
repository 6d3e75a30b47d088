"""ai.onnx.ml's linear operators in standard ONNX: the same answers, in a form that int8 knows."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import helper

from converter.frontends.linear import standardise
from converter.frontends.names import tidy
from tests.converter import models

ML = "ai.onnx.ml"
X = models.rng().normal(size=(20, 4)).astype(np.float32)


def model(*nodes: onnx.NodeProto, classes: int) -> onnx.ModelProto:
    made = models.model(nodes, [models.tensor("x", "N", 4)], [models.tensor("y", "N", classes)], [])
    made.opset_import.append(helper.make_opsetid(ML, 3))
    return made


def drawn(count: int) -> list[float]:
    values: list[float] = models.rng(count).normal(size=count).tolist()
    return values


def same(before: onnx.ModelProto) -> onnx.ModelProto:
    after = tidy(standardise(before))
    onnx.checker.check_model(after, full_check=True)
    np.testing.assert_allclose(
        models.run(before, x=X)[0], models.run(after, x=X)[0], rtol=1e-5, atol=1e-6
    )
    return after


@pytest.mark.parametrize("activation", ["NONE", "SOFTMAX", "LOGISTIC"])
def test_a_linear_classifier(activation: str) -> None:
    node = helper.make_node(
        "LinearClassifier",
        ["x"],
        ["label", "y"],
        domain=ML,
        coefficients=drawn(12),
        intercepts=drawn(3),
        classlabels_ints=[0, 1, 2],
        post_transform=activation,
    )
    assert {n.domain for n in same(model(node, classes=3)).graph.node} == {""}


@pytest.mark.parametrize("targets", [1, 3])
def test_a_linear_regressor(targets: int) -> None:
    node = helper.make_node(
        "LinearRegressor",
        ["x"],
        ["y"],
        domain=ML,
        coefficients=drawn(4 * targets),
        intercepts=drawn(targets),
        targets=targets,
    )
    assert [n.op_type for n in same(model(node, classes=targets)).graph.node] == [
        "Gemm",
        "Identity",
    ]


@pytest.mark.parametrize("size", [1, 4])
def test_a_scaler_of_one_factor_or_of_many(size: int) -> None:
    node = helper.make_node(
        "Scaler", ["x"], ["y"], domain=ML, offset=drawn(size), scale=drawn(size)
    )
    assert {n.domain for n in same(model(node, classes=4)).graph.node} == {""}


@pytest.mark.parametrize("norm", ["L1", "L2"])
def test_a_normalizer(norm: str) -> None:
    node = helper.make_node("Normalizer", ["x"], ["y"], domain=ML, norm=norm)
    assert [n.op_type for n in same(model(node, classes=4)).graph.node] == ["LpNormalization"]


def test_what_has_no_standard_form_is_left_for_the_reader_to_name() -> None:
    node = helper.make_node("Normalizer", ["x"], ["y"], domain=ML, norm="MAX")
    before = model(node, classes=4)
    assert standardise(before).graph.node[0].domain == ML


def test_a_bias_of_one_row_becomes_a_vector() -> None:
    before = models.model(
        [helper.make_node("MatMul", ["x", "w"], ["p"]), helper.make_node("Add", ["p", "b"], ["y"])],
        [models.tensor("x", "N", 4)],
        [models.tensor("y", "N", 3)],
        [models.weight("w", 4, 3), models.weight("b", 1, 3)],
    )
    after = same(before)
    assert sorted(list(t.dims) for t in after.graph.initializer) == [[3], [4, 3]]
