"""Requests and answers of the Open Inference Protocol, as bytes."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.serving import oip
from agent.serving.errors import MalformedRequest
from contract.manifest import FileRef, Manifest, Requirements, TensorSpec, Variant
from tests.agent.serving.tiny_models import manifest_of

_FILE = FileRef(path="f", length=0, digest="0" * 64)
TWO = Variant(
    name="two",
    runtime="onnxruntime",
    requires=Requirements(),
    model=_FILE,
    golden=_FILE,
    profile=_FILE,
    inputs=[
        TensorSpec(name="a", dtype="float32", shape=[-1, 2]),
        TensorSpec(name="b", dtype="int32", shape=[2]),
    ],
    outputs=[
        TensorSpec(name="p", dtype="float32", shape=[-1, 2]),
        TensorSpec(name="q", dtype="int32", shape=[2]),
    ],
)
MANIFEST: Manifest = manifest_of("two", "7", [TWO])
A: dict[str, Any] = {"name": "a", "shape": [1, 2], "datatype": "FP32", "data": [0.5, -1]}
B: dict[str, Any] = {"name": "b", "shape": [2], "datatype": "INT32", "data": [3, 4]}
OUTPUTS = {"p": np.array([[1.5, 2.5]], np.float32), "q": np.array([8, 9], np.int32)}


def decode(request: dict[str, Any], raw: bytes | None = None) -> oip.InferRequest:
    text = msgspec.json.encode(request)
    if raw is None:
        return oip.decode_request(TWO, text, None)
    return oip.decode_request(TWO, text + raw, b"%d" % len(text))


def binary(tensor: dict[str, Any], size: object) -> dict[str, Any]:
    found = {**tensor, "parameters": {"binary_data_size": size}}
    del found["data"]
    return found


def test_json_tensors_become_arrays() -> None:
    request = decode({"id": "r1", "inputs": [B, A]})
    assert request.id == "r1"
    assert np.array_equal(request.inputs["a"], [[0.5, -1]])
    assert np.array_equal(request.inputs["b"], [3, 4])
    assert list(request.outputs) == [("p", False), ("q", False)]


def test_raw_tensors_follow_the_json_in_the_order_of_the_inputs() -> None:
    raw = np.array([3, 4], np.int32).tobytes() + np.array([0.5, -1], np.float32).tobytes()
    request = decode({"inputs": [binary(B, 8), binary(A, 8)]}, raw)
    assert np.array_equal(request.inputs["a"], [[0.5, -1]])
    assert np.array_equal(request.inputs["b"], [3, 4])


def test_json_and_raw_tensors_may_be_mixed() -> None:
    request = decode({"inputs": [A, binary(B, 8)]}, np.array([3, 4], np.int32).tobytes())
    assert np.array_equal(request.inputs["b"], [3, 4])


def test_outputs_are_selected_and_each_has_its_own_form() -> None:
    wanted = [{"name": "q", "parameters": {"binary_data": True}}, {"name": "p"}]
    request = decode({"inputs": [A, B], "outputs": wanted})
    assert list(request.outputs) == [("q", True), ("p", False)]


def test_binary_data_output_is_the_default_of_all_outputs() -> None:
    parameters = {"binary_data_output": True, "anything_else": "ignored"}
    wanted = [{"name": "p", "parameters": {"binary_data": False}}, {"name": "q"}]
    assert list(decode({"inputs": [A, B], "parameters": parameters}).outputs) == [
        ("p", True),
        ("q", True),
    ]
    request = decode({"inputs": [A, B], "parameters": parameters, "outputs": wanted})
    assert list(request.outputs) == [("p", False), ("q", True)]


def test_an_answer_in_json_names_model_version_and_id() -> None:
    body, length = oip.encode_answer(MANIFEST, decode({"id": "z", "inputs": [A, B]}), OUTPUTS)
    assert length is None
    assert msgspec.json.decode(body) == {
        "model_name": "two",
        "model_version": "7",
        "id": "z",
        "outputs": [
            {"name": "p", "datatype": "FP32", "shape": [1, 2], "data": [1.5, 2.5]},
            {"name": "q", "datatype": "INT32", "shape": [2], "data": [8, 9]},
        ],
    }


def test_raw_outputs_follow_the_json_of_the_answer() -> None:
    request = decode({"inputs": [A, B], "parameters": {"binary_data_output": True}})
    body, length = oip.encode_answer(MANIFEST, request, OUTPUTS)
    assert length is not None
    answer = msgspec.json.decode(body[:length])
    assert "id" not in answer
    assert [o["parameters"]["binary_data_size"] for o in answer["outputs"]] == [8, 8]
    assert body[length:] == OUTPUTS["p"].tobytes() + OUTPUTS["q"].tobytes()


@pytest.mark.parametrize(
    "request_",
    [
        {},
        {"inputs": []},
        {"inputs": "a"},
        {"inputs": [A]},
        {"inputs": [A, A, B]},
        {"inputs": [A, B, {**A, "name": "c"}]},
        {"inputs": [{**A, "datatype": "FP64"}, B]},
        {"inputs": [{**A, "shape": [1, 3]}, B]},
        {"inputs": [{**A, "shape": [-1, 2]}, B]},
        {"inputs": [{**A, "shape": ["1", 2]}, B]},
        {"inputs": [{**A, "parameters": {"shared_memory_region": "r"}}, B]},
        {"inputs": [{**A, "parameters": {"binary_data_size": 8}}, B]},
        {"inputs": [binary(A, 8), B]},
        {"inputs": [binary(A, -1), B]},
        {"inputs": [binary(A, True), B]},
        {"inputs": [binary(A, "8"), B]},
        {"inputs": [A, B], "id": 7},
        {"inputs": [A, B], "id": "x" * 300},
        {"inputs": [A, B], "outputs": [{"name": "z"}]},
        {"inputs": [A, B], "outputs": [{"name": "p"}, {"name": "p"}]},
        {"inputs": [A, B], "outputs": [{"name": "p", "parameters": {"classification": 3}}]},
        {"inputs": [A, B], "outputs": [{"name": "p", "parameters": {"binary_data": 1}}]},
        {"inputs": [A, B], "parameters": {"binary_data_output": "yes"}},
        {"inputs": [A, B], "parameters": {"nested": [{}, {}]}},
        {"inputs": [{**A, "parameters": {"nested": {"a": []}}}, B]},
    ],
)
def test_what_the_protocol_or_the_model_does_not_take_is_refused(request_: dict[str, Any]) -> None:
    with pytest.raises(MalformedRequest):
        decode(request_)


@pytest.mark.parametrize("length", [b"", b"-1", b"x", b"9" * 13, b"99999", b"\xb2"])
def test_a_header_length_that_is_none_is_refused(length: bytes) -> None:
    with pytest.raises(MalformedRequest):
        oip.decode_request(TWO, msgspec.json.encode({"inputs": [A, B]}), length)


def test_bytes_that_no_tensor_claims_are_refused() -> None:
    with pytest.raises(MalformedRequest, match="2 bytes follow"):
        decode({"inputs": [A, B]}, b"zz")


@given(st.binary(max_size=300), st.one_of(st.none(), st.binary(max_size=4)))
def test_no_bytes_raise_anything_but_the_named_error(body: bytes, length: bytes | None) -> None:
    with pytest.raises(MalformedRequest):
        oip.decode_request(TWO, body, length)


Json = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=8)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.dictionaries(
            st.sampled_from(["name", "shape", "datatype", "data", "parameters", "id"])
            | st.text(max_size=4),
            inner,
            max_size=5,
        ),
    ),
    max_leaves=16,
)
Tensor = st.fixed_dictionaries(
    {
        "name": st.sampled_from(["a", "b", "c"]),
        "shape": st.lists(st.integers(-1, 3), max_size=3),
        "datatype": st.sampled_from(["FP32", "INT32", "BOOL", "BYTES"]),
    },
    optional={
        "data": Json,
        "parameters": st.dictionaries(
            st.sampled_from(["binary_data_size", "shared_memory_region"]),
            st.integers(-1, 20) | Json,
        ),
    },
)
Request = st.fixed_dictionaries(
    {"inputs": st.lists(Tensor, max_size=3) | Json},
    optional={"id": Json, "outputs": Json, "parameters": Json},
)


@given(Request, st.binary(max_size=20))
def test_no_request_raises_anything_but_the_named_error(request_: Any, raw: bytes) -> None:
    text = msgspec.json.encode(request_)
    try:
        found = oip.decode_request(TWO, text + raw, b"%d" % len(text))
    except MalformedRequest:
        return
    assert set(found.inputs) == {"a", "b"}
    assert found.inputs["b"].shape == (2,)
