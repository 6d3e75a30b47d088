"""The trained model as it came: read, bounded, and checked before any work is done.

Owns what a model must be for the int8 path: one self-contained float ONNX file of standard
operators with finite weights and a batch dimension in front. Changes nothing in it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, numpy_helper

from contract.ids import digest_of
from contract.manifest import DType, Source, TensorSpec
from converter.errors import (
    AlreadyQuantised,
    ExternalData,
    InvalidModel,
    ModelUnreadable,
    NonFiniteWeights,
    NotOnnx,
    UnsupportedOperator,
    UnsupportedOpset,
    UnsupportedTensor,
)
from converter.mistaken import what_instead

MAX_MODEL_BYTES = 1 << 30
"""A protobuf message ends at 2 GiB, and quantising holds several copies."""
OPSETS = range(7, 26)
"""What onnx's own converter can carry to opset 17; below 7 it knows no way up."""
MAX_NAME = 120
"""Of a tensor at the model's boundary, as the manifest holds it."""
STANDARD_DOMAINS = frozenset({"", "ai.onnx"})
TREE_DOMAINS = frozenset({"ai.onnx.ml"})
ELEMENT_TYPES: dict[int, DType] = {
    TensorProto.FLOAT: "float32",
    TensorProto.FLOAT16: "float16",
    TensorProto.INT8: "int8",
    TensorProto.UINT8: "uint8",
    TensorProto.INT16: "int16",
    TensorProto.INT32: "int32",
    TensorProto.INT64: "int64",
    TensorProto.BOOL: "bool",
}
_QUANTISED = ("QuantizeLinear", "DequantizeLinear", "QLinear", "DynamicQuantizeLinear")
_INTEGER = ("ConvInteger", "MatMulInteger", "QGemm", "QAttention", "MatMulNBits")


@dataclass(frozen=True)
class SourceModel:
    """A checked float model. `inputs` have -1 (any batch) or 1 in front."""

    name: str
    data: bytes
    digest: str
    proto: onnx.ModelProto
    inputs: tuple[TensorSpec, ...]
    origin: Source | None = None
    """The trained model itself, where `data` was made out of another form of it."""

    @property
    def batch(self) -> int:
        """How many samples one call may hold: -1 for any, 1 when the export fixed it."""
        return max(spec.shape[0] for spec in self.inputs)


def read_source(path: Path) -> SourceModel:
    """Read and check `path`; raises the `ConvertError` that names what is wrong with it."""
    return check_source(path, _read(path))


def check_source(path: Path, data: bytes, *, trees: bool = False) -> SourceModel:
    """The same for an ONNX model that was made out of the file at `path`.

    `trees`: whether it may hold tree ensembles, which no step after this one can quantise.
    """
    model = _parse(path, data)
    try:
        inputs = _check(path, model, STANDARD_DOMAINS | TREE_DOMAINS if trees else STANDARD_DOMAINS)
    except UnicodeDecodeError as error:  # onnx's, where it wants to tell of a damaged name
        raise InvalidModel(f"{path}: a name in it is not text; export the model again") from error
    # The name goes into the manifest, which is UTF-8; a file's name may be any bytes.
    name = path.name.encode(errors="replace").decode()
    return SourceModel(name, data, digest_of(data), model, inputs)


def _check(path: Path, model: onnx.ModelProto, domains: frozenset[str]) -> tuple[TensorSpec, ...]:
    _refuse_damaged_names(path, model)
    _refuse_external_data(path, model)
    # Before onnx's own check, which knows no custom domain and would blame the graph.
    _refuse_foreign_operators(path, model, domains)
    _refuse_opset(path, model)
    _check_graph(path, model)
    _refuse_quantised(path, model)
    _refuse_broken_weights(path, model)
    _refuse_half(path, model)
    return _inputs(path, model)


def _read(path: Path) -> bytes:
    try:
        size = path.stat().st_size
        if not path.is_file():
            raise ModelUnreadable(f"{path}: not a file; give the .onnx file itself")
        if not 0 < size <= MAX_MODEL_BYTES:
            raise ModelUnreadable(
                f"{path}: {size} bytes; a model has between 1 byte and {MAX_MODEL_BYTES} bytes"
            )
        return path.read_bytes()
    except OSError as error:
        reason = error.strerror or "cannot be read"
        raise ModelUnreadable(f"{path}: {reason}; check the path of the model") from error


def _parse(path: Path, data: bytes) -> onnx.ModelProto:
    try:
        model = onnx.load_from_string(data)
    except Exception as error:  # protobuf's DecodeError, whose package ships no types
        raise NotOnnx(f"{path}: {what_instead(path, data)}") from error
    if not model.graph.node or not model.opset_import:
        raise NotOnnx(f"{path}: {what_instead(path, data)}")
    return model


def _refuse_damaged_names(path: Path, model: onnx.ModelProto) -> None:
    for value in (*model.graph.input, *model.graph.output):
        # protobuf hands out bytes for a string that is not UTF-8.
        if not isinstance(value.name, str):
            raise InvalidModel(
                f"{path}: the name {value.name[:40]!r} is not text; export the model again"
            )


def _refuse_external_data(path: Path, model: onnx.ModelProto) -> None:
    for tensor in _tensors(model.graph):
        if tensor.data_location == TensorProto.EXTERNAL:
            raise ExternalData(
                f"{path}: weight {tensor.name!r} stands in another file; save the model with"
                " onnx.save_model(model, path, save_as_external_data=False)"
            )


def _refuse_foreign_operators(path: Path, model: onnx.ModelProto, domains: frozenset[str]) -> None:
    found = sorted(
        {
            f"{node.domain}.{node.op_type}"
            for node in _nodes(model.graph)
            if node.domain not in domains
        }
    )
    if model.functions:
        found.append(f"function {model.functions[0].name}")
    if found:
        hint = (
            "trees have no int8 form, shrink the forest instead"
            if any(name.startswith("ai.onnx.ml.Tree") for name in found)
            else "export with standard ONNX operators only"
        )
        raise UnsupportedOperator(f"{path}: uses {', '.join(found[:5])}; {hint}")


def _refuse_opset(path: Path, model: onnx.ModelProto) -> None:
    opset = next((o.version for o in model.opset_import if o.domain in STANDARD_DOMAINS), 0)
    if opset not in OPSETS:
        raise UnsupportedOpset(f"{path}: opset {opset}; export again with opset_version=17")


def _check_graph(path: Path, model: onnx.ModelProto) -> None:
    try:
        onnx.checker.check_model(model, full_check=True)
    except (
        onnx.checker.ValidationError,
        onnx.shape_inference.InferenceError,
        ValueError,  # e.g. of an unknown element type
    ) as error:
        first = " ".join(str(error).split())[:200]
        raise InvalidModel(f"{path}: not a valid graph ({first}); export it again") from error


def _refuse_quantised(path: Path, model: onnx.ModelProto) -> None:
    for node in _nodes(model.graph):
        if node.op_type.startswith(_QUANTISED) or node.op_type in _INTEGER:
            raise AlreadyQuantised(
                f"{path}: node {node.name or node.output[0]!r} is {node.op_type}: the model is"
                " quantised already; give the float model it was made from"
            )


def _refuse_broken_weights(path: Path, model: onnx.ModelProto) -> None:
    for tensor in _tensors(model.graph):
        values = _values(path, tensor)
        if values.dtype.kind == "f" and not np.isfinite(values).all():
            bad = int(np.size(values) - np.isfinite(values).sum())
            raise NonFiniteWeights(
                f"{path}: weight {tensor.name!r} has {bad} NaN or Inf of {values.size} values;"
                " the training diverged, take an earlier checkpoint"
            )


def _refuse_half(path: Path, model: onnx.ModelProto) -> None:
    """At opset 17 integers know float32 alone: what comes out of float16 was seen to be wrong."""
    for tensor in _tensors(model.graph):
        if tensor.data_type in (TensorProto.FLOAT16, TensorProto.BFLOAT16) and len(tensor.dims) > 1:
            raise UnsupportedTensor(
                f"{path}: weight {tensor.name!r} is float16; export the model as float32, the"
                " variants are made of that (float16 is one of them: --with-cuda)"
            )


def _values(path: Path, tensor: TensorProto) -> NDArray[Any]:
    try:
        return numpy_helper.to_array(tensor)
    except (TypeError, ValueError) as error:
        raise InvalidModel(
            f"{path}: weight {tensor.name!r} is damaged ({error}); export the model again"
        ) from error


def _inputs(path: Path, model: onnx.ModelProto) -> tuple[TensorSpec, ...]:
    weights = {tensor.name for tensor in model.graph.initializer}
    specs = tuple(_spec(path, v) for v in model.graph.input if v.name not in weights)
    if not specs:
        raise UnsupportedTensor(f"{path}: the model has no input; export it with one")
    if len({spec.shape[0] for spec in specs}) != 1:
        raise UnsupportedTensor(
            f"{path}: some inputs have a fixed batch and some have not; make all of them dynamic"
        )
    return specs


def _spec(path: Path, value: onnx.ValueInfoProto) -> TensorSpec:
    if len(value.name) > MAX_NAME:
        raise UnsupportedTensor(
            f"{path}: input {value.name[:40]!r}… has a name of {len(value.name)} characters; at"
            f" most {MAX_NAME}, rename it"
        )
    kind = value.type.tensor_type
    dtype = ELEMENT_TYPES.get(kind.elem_type)
    if dtype is None:
        raise UnsupportedTensor(
            f"{path}: input {value.name!r} is not a tensor of {', '.join(ELEMENT_TYPES.values())};"
            " export it as float32"
        )
    dims = [d.dim_value if d.HasField("dim_value") else -1 for d in kind.shape.dim]
    if not dims or dims[0] not in (-1, 1):
        raise UnsupportedTensor(
            f"{path}: input {value.name!r} has shape {dims}; the first dimension must be the"
            " batch, dynamic or 1"
        )
    if any(dim < 1 for dim in dims[1:]):
        raise UnsupportedTensor(
            f"{path}: input {value.name!r} has shape {dims}; only the batch may be dynamic,"
            " export with the other sizes fixed"
        )
    return TensorSpec(name=value.name, dtype=dtype, shape=dims)


def _nodes(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            for inner in (attribute.g, *attribute.graphs):
                yield from _nodes(inner)


def _tensors(graph: onnx.GraphProto) -> Iterator[TensorProto]:
    """Initialisers and constants, also those of inner graphs."""
    yield from graph.initializer
    for node in _nodes(graph):
        for attribute in node.attribute:
            if attribute.HasField("t"):
                yield attribute.t
            for inner in (attribute.g, *attribute.graphs):
                yield from inner.initializer
