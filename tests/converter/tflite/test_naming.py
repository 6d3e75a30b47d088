"""The TFLite variant's tensors bear the names of the ONNX one, or it is said that they cannot."""

from __future__ import annotations

import numpy as np
import pytest

from contract.manifest import TensorSpec
from converter import errors
from converter.samples import Samples
from converter.tflite.naming import named_like
from converter.tflite.runner import TfliteRunner
from converter.tflite.source import TfliteModel, check_tflite
from tests.converter.tflite import models


def spec(name: str, *shape: int, dtype: str = "float32") -> TensorSpec:
    return TensorSpec(name=name, dtype=dtype, shape=list(shape))  # type: ignore[arg-type]  # tests pick


@pytest.fixture
def model() -> TfliteModel:
    return check_tflite(models.classifier(), "digits.tflite")


def test_tensors_are_renamed_and_nothing_else_changes(model: TfliteModel) -> None:
    found = named_like(model, [spec("input.1", -1, 8, 8, 1)], [spec("probs", -1, 10)])
    runner = TfliteRunner(found.data)
    assert [s.name for s in (*runner.inputs, *runner.output_specs)] == ["input.1", "probs"]
    assert (found.inputs[0].name, found.outputs[0].name) == ("input.1", "probs")
    images = models.evaluation().arrays["image"]
    np.testing.assert_array_equal(
        runner.run(Samples("x", {"input.1": images}))["probs"],
        TfliteRunner(model.data).run(Samples("x", {"image": images}))["scores"],
    )


def test_names_that_agree_are_left_alone(model: TfliteModel) -> None:
    assert named_like(model, model.inputs, model.outputs) is model


@pytest.mark.parametrize(
    "wanted",
    [
        [spec("image", -1, 1, 8, 8)],
        [spec("image", -1, 8, 8, 1, dtype="int8")],
        [spec("image", -1, 8, 8, 1), spec("mask", -1, 8)],
    ],
)
def test_another_layout_type_or_number_is_refused(
    model: TfliteModel, wanted: list[TensorSpec]
) -> None:
    with pytest.raises(errors.VariantsDisagree, match=r"digits\.tflite.*image float32"):
        named_like(model, wanted, model.outputs)


def test_several_tensors_are_matched_by_name_whatever_their_order() -> None:
    graph = models.Graph()
    a, b = graph.tensor("a", [-1, 2]), graph.tensor("b", [-1, 2])
    total = graph.tensor("total", [-1, 2])
    from ai_edge_litert import schema_py_generated as schema

    graph.operator(
        schema.BuiltinOperator.ADD,
        [a, b],
        total,
        schema.BuiltinOptions.AddOptions,
        schema.AddOptionsT(),
    )
    model = check_tflite(graph.bytes([a, b], [total]), "sum.tflite")
    assert named_like(model, [spec("b", -1, 2), spec("a", -1, 2)], model.outputs) is model
