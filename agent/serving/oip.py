"""Open Inference Protocol v2 requests and answers, JSON with the binary tensor extension. Pure.

Spec: https://github.com/kserve/open-inference-protocol and Triton's `binary_tensor_data`
extension. A request is JSON, optionally followed by raw tensors; `Inference-Header-Content-Length`
says where the JSON ends. Raises `MalformedRequest` and nothing else, whatever it is fed. Shared
memory and classification, which Triton also has, are refused by name rather than ignored.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import msgspec
import numpy.typing as npt
from msgspec import Meta

from agent.serving import tensors
from agent.serving.errors import MalformedRequest
from contract.manifest import Manifest, TensorSpec, Variant

EXTENSIONS = ["binary_tensor_data"]
_REFUSED = ("shared_memory_region", "classification")

_Name = Annotated[str, Meta(max_length=120)]
_Shape = Annotated[list[Annotated[int, Meta(ge=0, le=1 << 31)]], Meta(max_length=tensors.MAX_RANK)]
_Scalar = bool | int | float | Annotated[str, Meta(max_length=4_096)] | None
"""No lists and no objects: they would grow far beyond the body that they came in."""
_Parameters = Annotated[dict[_Name, _Scalar], Meta(max_length=64)]


class _Input(msgspec.Struct):
    name: _Name
    shape: _Shape
    datatype: _Name
    parameters: _Parameters = {}
    data: msgspec.Raw = msgspec.Raw(b"")


class _Output(msgspec.Struct):
    name: _Name
    parameters: _Parameters = {}


class _Request(msgspec.Struct):
    inputs: Annotated[list[_Input], Meta(min_length=1, max_length=32)]
    id: Annotated[str, Meta(max_length=256)] = ""
    parameters: _Parameters = {}
    outputs: Annotated[list[_Output], Meta(max_length=32)] = []


@dataclass(frozen=True)
class InferRequest:
    """A checked request: arrays as the model takes them, and which outputs go back how."""

    id: str
    inputs: Mapping[str, npt.NDArray[Any]]
    outputs: Sequence[tuple[str, bool]]
    """Name, and whether it goes back as raw bytes."""


_DECODER = msgspec.json.Decoder(_Request)
_ENCODER = msgspec.json.Encoder()


def decode_request(variant: Variant, body: bytes, header_length: bytes | None) -> InferRequest:
    """Parse and check an inference request against the model's tensors."""
    text, raw = _split(body, header_length)
    try:
        request = _DECODER.decode(text)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise MalformedRequest(f"not an inference request: {str(error)[:200]}") from error
    return InferRequest(
        id=request.id,
        inputs=_inputs(variant.inputs, request.inputs, raw),
        outputs=_outputs(variant.outputs, request),
    )


def encode_answer(
    manifest: Manifest, request: InferRequest, outputs: Mapping[str, npt.NDArray[Any]]
) -> tuple[bytes, int | None]:
    """The answer's body, and the length of its JSON where raw tensors follow it."""
    listed: list[dict[str, Any]] = []
    raw: list[bytes] = []
    for name, binary in request.outputs:
        array = outputs[name]
        entry: dict[str, Any] = {
            "name": name,
            "datatype": tensors.DATATYPES[array.dtype.name],
            "shape": list(array.shape),
        }
        if binary:
            raw.append(tensors.to_bytes(array))
            entry["parameters"] = {"binary_data_size": len(raw[-1])}
        else:
            entry["data"] = tensors.to_json(array)
        listed.append(entry)
    answer: dict[str, Any] = {"model_name": manifest.family, "model_version": manifest.version}
    if request.id:
        answer["id"] = request.id
    text = _ENCODER.encode({**answer, "outputs": listed})
    return (b"".join([text, *raw]), len(text)) if raw else (text, None)


def describe_model(manifest: Manifest, variant: Variant) -> dict[str, Any]:
    """Model metadata, as `GET v2/models/{name}` answers it."""
    return {
        "name": manifest.family,
        "versions": [manifest.version],
        "platform": "onnxruntime_onnx" if variant.runtime == "onnxruntime" else "tensorflow_lite",
        "inputs": [_describe(spec) for spec in variant.inputs],
        "outputs": [_describe(spec) for spec in variant.outputs],
    }


def _describe(spec: TensorSpec) -> dict[str, Any]:
    return {"name": spec.name, "datatype": tensors.DATATYPES[spec.dtype], "shape": spec.shape}


def _split(body: bytes, header_length: bytes | None) -> tuple[bytes, memoryview]:
    if header_length is None:
        return body, memoryview(b"")
    if not header_length.isdigit() or len(header_length) > 12:
        raise MalformedRequest("Inference-Header-Content-Length is not a length")
    end = int(header_length)
    if end > len(body):
        raise MalformedRequest(f"Inference-Header-Content-Length {end} of a {len(body)} byte body")
    return body[:end], memoryview(body)[end:]


def _inputs(
    specs: Sequence[TensorSpec], given: Sequence[_Input], raw: memoryview
) -> dict[str, npt.NDArray[Any]]:
    known = {spec.name: spec for spec in specs}
    arrays: dict[str, npt.NDArray[Any]] = {}
    for tensor in given:
        spec = known.get(tensor.name)
        if spec is None or tensor.name in arrays:
            what = "twice" if spec else "unknown to this model"
            raise MalformedRequest(f"input '{tensor.name}' is {what}; it takes {sorted(known)}")
        arrays[tensor.name], raw = _input(spec, tensor, raw)
    if len(arrays) != len(known):
        raise MalformedRequest(f"input '{min(known.keys() - arrays.keys())}' is missing")
    if len(raw):
        raise MalformedRequest(f"{len(raw)} bytes follow the last tensor")
    return arrays


def _input(
    spec: TensorSpec, tensor: _Input, raw: memoryview
) -> tuple[npt.NDArray[Any], memoryview]:
    _refuse(tensor.parameters)
    dtype = tensors.input_dtype(spec, tensor.datatype)
    count = tensors.check_shape(spec, dtype, tensor.shape)
    size = tensor.parameters.get("binary_data_size")
    text = bytes(tensor.data)
    if size is None:
        return tensors.from_json(spec.name, dtype, tensor.shape, count, text), raw
    if text:
        raise MalformedRequest(f"input '{spec.name}' has both data and binary_data_size")
    if type(size) is not int or not 0 <= size <= len(raw):
        raise MalformedRequest(f"input '{spec.name}': binary_data_size is beyond the body")
    return tensors.from_bytes(spec.name, dtype, tensor.shape, count, raw[:size]), raw[size:]


def _outputs(specs: Sequence[TensorSpec], request: _Request) -> list[tuple[str, bool]]:
    default = _flag(request.parameters, "binary_data_output", False)
    if not request.outputs:
        return [(spec.name, default) for spec in specs]
    known = {spec.name for spec in specs}
    wanted: dict[str, bool] = {}
    for output in request.outputs:
        if output.name not in known or output.name in wanted:
            what = "asked for twice" if output.name in wanted else "unknown to this model"
            raise MalformedRequest(f"output '{output.name}' is {what}; it has {sorted(known)}")
        _refuse(output.parameters)
        wanted[output.name] = _flag(output.parameters, "binary_data", default)
    return list(wanted.items())


def _flag(parameters: Mapping[str, Any], name: str, default: bool) -> bool:
    value = parameters.get(name, default)
    if not isinstance(value, bool):
        raise MalformedRequest(f"parameter '{name}' is not true or false")
    return value


def _refuse(parameters: Mapping[str, Any]) -> None:
    for name in _REFUSED:
        if parameters.get(name):
            raise MalformedRequest(f"parameter '{name}' is not supported by this server")
