"""What a trained model must be: each bad one is refused by name, in one line, with a remedy."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from converter import errors
from converter.source import read_source
from tests.converter import models


def refused(path: Path, kind: type[errors.ConvertError], *words: str) -> None:
    with pytest.raises(kind) as caught:
        read_source(path)
    message = str(caught.value)
    assert "\n" not in message
    assert ";" in message, "a refusal says what to do"
    for word in (path.name, *words):
        assert word in message


def test_a_good_model_gives_its_inputs_and_digest(tmp_path: Path) -> None:
    source = read_source(models.save(tmp_path / "good.onnx", models.classifier()))
    (spec,) = source.inputs
    assert (spec.name, spec.dtype, spec.shape) == ("image", "float32", [-1, 1, 8, 8])
    assert source.batch == -1
    assert len(source.digest) == 64


def test_a_fixed_batch_of_one_is_kept_as_such(tmp_path: Path) -> None:
    source = read_source(models.save(tmp_path / "one.onnx", models.classifier(batch=1)))
    assert source.batch == 1


def test_weights_listed_as_inputs_are_no_inputs(tmp_path: Path) -> None:
    made = models.classifier()
    made.graph.input.append(models.tensor("d.b", models.CLASSES))
    source = read_source(models.save(tmp_path / "old.onnx", made))
    assert [spec.name for spec in source.inputs] == ["image"]


def test_missing_file(tmp_path: Path) -> None:
    refused(tmp_path / "none.onnx", errors.ModelUnreadable, "No such file")


def test_directory(tmp_path: Path) -> None:
    refused(tmp_path, errors.ModelUnreadable, "not a file")


def test_empty_file(tmp_path: Path) -> None:
    path = tmp_path / "empty.onnx"
    path.touch()
    refused(path, errors.ModelUnreadable, "0 bytes")


@pytest.mark.parametrize(
    "content", [b"\x00" * 64, b"PK\x03\x04 a zip", b"not a model at all", b"\x08\x07"]
)
def test_bytes_that_are_no_model(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "noise.onnx"
    path.write_bytes(content)
    refused(path, errors.NotOnnx)


@pytest.mark.parametrize("share", [0.02, 0.5, 0.9])
def test_a_truncated_model(tmp_path: Path, share: float) -> None:
    path, whole = tmp_path / "cut.onnx", models.classifier().SerializeToString()
    path.write_bytes(whole[: int(len(whole) * share)])
    refused(path, errors.NotOnnx, "truncated or damaged")


@pytest.mark.parametrize("cut", [1, 10, 100])
def test_a_model_without_its_last_bytes(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "cut.onnx"
    path.write_bytes(models.classifier().SerializeToString()[:-cut])
    refused(path, errors.NotOnnx, "truncated or damaged")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "git lfs pull"),
        (b"<!DOCTYPE html><html><body>404</body></html>", "web page"),
        (b"\n<html lang='en'>", "web page"),
        (b"not a model at all", "export it to ONNX"),
    ],
)
def test_what_came_instead_of_a_model_is_named(tmp_path: Path, content: bytes, words: str) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(content)
    refused(path, errors.NotOnnx, words)


def test_a_name_that_is_not_text(tmp_path: Path) -> None:
    path = tmp_path / "name.onnx"
    path.write_bytes(models.classifier().SerializeToString().replace(b"image", b"im\xffge"))
    refused(path, errors.InvalidModel, "not text")


def test_a_weight_of_an_unknown_type(tmp_path: Path) -> None:
    made = models.classifier()
    made.graph.initializer[0].data_type = 121
    refused(models.save(tmp_path / "type.onnx", made), errors.InvalidModel)


@pytest.mark.parametrize("kind", [TensorProto.FLOAT16, TensorProto.BFLOAT16])
def test_half_precision_weights_are_named(tmp_path: Path, kind: int) -> None:
    """Quantised at opset 17 they answered half of all samples wrongly."""
    nodes = [
        helper.make_node("Cast", ["image"], ["half"], to=kind),
        helper.make_node("MatMul", ["half", "d.w"], ["m"]),
        helper.make_node("Cast", ["m"], ["y"], to=TensorProto.FLOAT),
    ]
    weights = [helper.make_tensor("d.w", kind, [8, 5], np.full(40, 0.5))]
    inputs, outputs = [models.tensor("image", "N", 8)], [models.tensor("y", "N", 5)]
    path = models.save(tmp_path / "half.onnx", models.model(nodes, inputs, outputs, weights))
    refused(path, errors.UnsupportedTensor, "'d.w' is float16", "float32")


def test_another_format_is_named(tmp_path: Path) -> None:
    path = tmp_path / "model.tflite"
    path.write_bytes(b"\x1c\x00\x00\x00TFL3" + b"\xff" * 64)
    refused(path, errors.NotOnnx, "TensorFlow Lite")


def test_external_data(tmp_path: Path) -> None:
    path = tmp_path / "outside.onnx"
    onnx.save_model(
        models.classifier(), path, save_as_external_data=True, location="w.bin", size_threshold=0
    )
    refused(path, errors.ExternalData, "c1.w")


def test_quantised_model(tmp_path: Path) -> None:
    made = models.model(
        [
            helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"], name="first"),
            helper.make_node("DequantizeLinear", ["q", "s", "z"], ["y"]),
        ],
        [models.tensor("x", "N", 4)],
        [models.tensor("y", "N", 4)],
        [
            numpy_helper.from_array(np.float32(0.1), "s"),
            numpy_helper.from_array(np.uint8(3), "z"),
        ],
    )
    path = models.save(tmp_path / "int8.onnx", made)
    refused(path, errors.AlreadyQuantised, "first", "QuantizeLinear")


def test_custom_operator(tmp_path: Path) -> None:
    made = models.model(
        [helper.make_node("FancyNorm", ["x"], ["y"], domain="com.acme")],
        [models.tensor("x", "N", 4)],
        [models.tensor("y", "N", 4)],
        [],
        domains=["com.acme"],
    )
    path = models.save(tmp_path / "custom.onnx", made)
    refused(path, errors.UnsupportedOperator, "com.acme.FancyNorm")


def test_trees_are_told_what_helps_instead(tmp_path: Path) -> None:
    made = models.model(
        [helper.make_node("TreeEnsembleRegressor", ["x"], ["y"], domain="ai.onnx.ml")],
        [models.tensor("x", "N", 4)],
        [models.tensor("y", "N", 1)],
        [],
        domains=["ai.onnx.ml"],
    )
    path = models.save(tmp_path / "forest.onnx", made)
    refused(path, errors.UnsupportedOperator, "shrink the forest")


@pytest.mark.parametrize("opset", [6, 99])
def test_opset_out_of_reach(tmp_path: Path, opset: int) -> None:
    path = models.save(tmp_path / "opset.onnx", models.classifier(opset=opset))
    refused(path, errors.UnsupportedOpset, str(opset), "opset_version=17")


def test_invalid_graph(tmp_path: Path) -> None:
    made = models.classifier()
    made.graph.node[3].input[0] = "nowhere"
    refused(models.save(tmp_path / "broken.onnx", made), errors.InvalidModel, "nowhere")


def test_shapes_that_contradict_each_other(tmp_path: Path) -> None:
    made = models.classifier()
    made.graph.initializer[-1].CopyFrom(models.weight("v", 7))
    refused(models.save(tmp_path / "shapes.onnx", made), errors.InvalidModel)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_weights_that_are_not_finite(tmp_path: Path, bad: float) -> None:
    made = models.classifier()
    values = numpy_helper.to_array(made.graph.initializer[1]).copy()
    values[0, 0, 0, :2] = bad
    made.graph.initializer[1].CopyFrom(numpy_helper.from_array(values, "c2.w"))
    path = models.save(tmp_path / "nan.onnx", made)
    refused(path, errors.NonFiniteWeights, "c2.w", "2 NaN or Inf")


def test_constants_count_as_weights(tmp_path: Path) -> None:
    constant = numpy_helper.from_array(np.array([np.nan] * 4, np.float32), "shift")
    made = models.model(
        [
            helper.make_node("Constant", [], ["k"], value=constant),
            helper.make_node("Add", ["x", "k"], ["y"]),
        ],
        [models.tensor("x", "N", 4)],
        [models.tensor("y", "N", 4)],
        [],
    )
    refused(models.save(tmp_path / "const.onnx", made), errors.NonFiniteWeights)


def one_input(*dims: int | str, kind: int = TensorProto.FLOAT) -> onnx.ModelProto:
    return models.model(
        [helper.make_node("Identity", ["x"], ["y"])],
        [models.tensor("x", *dims, kind=kind)],
        [models.tensor("y", *dims, kind=kind)],
        [],
    )


def test_a_second_dynamic_dimension(tmp_path: Path) -> None:
    path = models.save(tmp_path / "dyn.onnx", one_input("N", 1, "height", 8))
    refused(path, errors.UnsupportedTensor, "'x'", "only the batch")


def test_a_fixed_batch_of_many(tmp_path: Path) -> None:
    path = models.save(tmp_path / "batch.onnx", one_input(32, 4))
    refused(path, errors.UnsupportedTensor, "32")


def test_a_scalar_input(tmp_path: Path) -> None:
    refused(models.save(tmp_path / "scalar.onnx", one_input()), errors.UnsupportedTensor)


@pytest.mark.parametrize("kind", [TensorProto.DOUBLE, TensorProto.STRING, TensorProto.COMPLEX64])
def test_an_input_of_an_unserved_type(tmp_path: Path, kind: int) -> None:
    path = models.save(tmp_path / "type.onnx", one_input("N", 4, kind=kind))
    refused(path, errors.UnsupportedTensor, "float32")


def test_a_model_without_inputs(tmp_path: Path) -> None:
    made = models.model(
        [helper.make_node("Identity", ["w"], ["y"])],
        [],
        [models.tensor("y", 4)],
        [models.weight("w", 4)],
    )
    refused(models.save(tmp_path / "none.onnx", made), errors.UnsupportedTensor, "no input")


def test_inputs_that_disagree_on_the_batch(tmp_path: Path) -> None:
    made = models.model(
        [helper.make_node("Add", ["a", "b"], ["y"])],
        [models.tensor("a", "N", 4), models.tensor("b", 1, 4)],
        [models.tensor("y", "N", 4)],
        [],
    )
    refused(models.save(tmp_path / "two.onnx", made), errors.UnsupportedTensor, "batch")
