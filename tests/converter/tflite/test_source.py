"""What a float .tflite has to be, and the form it is brought into."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

from contract.ids import digest_of
from contract.manifest import TensorSpec
from converter import errors
from converter.samples import Samples
from converter.tflite.flatbuffer import parse
from converter.tflite.runner import TfliteRunner
from converter.tflite.source import check_tflite
from tests.converter.tflite import models


def refused(data: bytes, kind: type[errors.ConvertError], *words: str) -> None:
    with pytest.raises(kind) as caught:
        check_tflite(data, "net.tflite")
    for word in ("net.tflite", *words):
        assert word in str(caught.value)
    assert "\n" not in str(caught.value)


def changed(change: Callable[[Any], None]) -> bytes:
    return models.changed(models.classifier(), change)


def test_inputs_and_outputs_are_described_by_their_public_names() -> None:
    found = check_tflite(models.classifier(), "net.tflite")
    assert found.inputs == (TensorSpec(name="image", dtype="float32", shape=[-1, 8, 8, 1]),)
    assert found.outputs == (TensorSpec(name="scores", dtype="float32", shape=[-1, 10]),)
    assert found.batch == -1
    assert found.digest == digest_of(models.classifier())


def test_the_checked_form_answers_as_the_original() -> None:
    found = check_tflite(models.classifier(), "net.tflite")
    images = models.evaluation().arrays["image"]
    before = TfliteRunner(models.classifier()).run(
        Samples("x", {"serving_default_image:0": images})
    )
    after = TfliteRunner(found.data).run(Samples("x", {"image": images}))
    np.testing.assert_array_equal(before["scores"], after["scores"])


def test_a_signature_is_written_where_there_was_none() -> None:
    model = parse(check_tflite(models.classifier(), "net.tflite").data, "x")
    (signature,) = model.signatureDefs
    assert signature.signatureKey == b"serving_default"
    assert [entry.name for entry in signature.inputs] == [b"image"]


def test_the_names_of_the_signature_win() -> None:
    def sign(model: Any) -> None:
        entry = schema.TensorMapT()
        entry.name, entry.tensorIndex = b"picture", model.subgraphs[0].inputs[0]
        made = schema.SignatureDefT()
        made.signatureKey, made.inputs, made.outputs = b"serve", [entry], []
        model.signatureDefs = [made]

    assert check_tflite(changed(sign), "net.tflite").inputs[0].name == "picture"


def test_exporters_names_of_inside_tensors_go() -> None:
    found = check_tflite(models.classifier(), "net.tflite")
    assert b"exporter" in models.classifier()
    assert b"exporter" not in found.data


def test_a_fixed_batch_of_one_is_kept() -> None:
    assert check_tflite(models.classifier(1), "net.tflite").batch == 1


@pytest.mark.parametrize("length", [1, 100, 5000, -20])
def test_a_truncated_file(length: int) -> None:
    refused(models.classifier()[:length], errors.NotTflite, "damaged")


def test_an_empty_file() -> None:
    refused(b"", errors.NotTflite)


def test_another_format() -> None:
    refused(b"\x08\x08" + b"x" * 200, errors.NotTflite)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_weight_that_is_not_finite_is_named(bad: float) -> None:
    def spoil(model: Any) -> None:
        weights = np.frombuffer(bytes(model.buffers[1].data), np.float32).copy()
        weights[3] = bad
        model.buffers[1].data = np.frombuffer(weights.tobytes(), np.uint8)

    refused(changed(spoil), errors.NonFiniteWeights, "a/very/long/name", "1 NaN or Inf")


def test_a_custom_operator() -> None:
    def spoil(model: Any) -> None:
        code = model.operatorCodes[3]
        code.builtinCode, code.deprecatedBuiltinCode, code.customCode = 32, 32, b"FlexErf"

    refused(changed(spoil), errors.UnsupportedOperator, "TFLITE_BUILTINS")


def test_a_quantised_tensor() -> None:
    def spoil(model: Any) -> None:
        found = schema.QuantizationParametersT()
        found.scale, found.zeroPoint = [0.5], [0]
        model.subgraphs[0].tensors[2].quantization = found

    refused(changed(spoil), errors.AlreadyQuantised, "'offsets'")


def test_a_dequantising_operator() -> None:
    def spoil(model: Any) -> None:
        code = model.operatorCodes[3]
        code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.DEQUANTIZE

    refused(changed(spoil), errors.AlreadyQuantised, "DEQUANTIZE")


def test_several_graphs() -> None:
    def spoil(model: Any) -> None:
        model.subgraphs = [model.subgraphs[0], model.subgraphs[0]]

    refused(changed(spoil), errors.UnsupportedOperator, "2 graphs")


@pytest.mark.parametrize("shape", [[4, 8, 8, 1], [-1, -1, 8, 1]])
def test_a_shape_that_no_device_can_serve(shape: list[int]) -> None:
    def spoil(model: Any) -> None:
        model.subgraphs[0].tensors[0].shapeSignature = shape

    refused(changed(spoil), errors.UnsupportedTensor, "'image'", "batch")


def test_an_input_of_an_unknown_type() -> None:
    def spoil(model: Any) -> None:
        model.subgraphs[0].tensors[0].type = schema.TensorType.COMPLEX64

    refused(changed(spoil), errors.UnsupportedTensor, "'image'")


def test_an_endless_name() -> None:
    def spoil(model: Any) -> None:
        model.subgraphs[0].tensors[0].name = b"n" * 500

    refused(changed(spoil), errors.UnsupportedTensor, "500 characters")
