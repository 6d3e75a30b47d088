"""A float .tflite as it came: verified, checked, and brought into the form that we work on.

Owns what a TFLite model must be for the int8 path: one graph of built-in float operators, finite
weights, a batch in front. Inside tensors are numbered, so that no exporter's names (a quarter of a
small model's bytes) travel to devices, and a signature is added where one is missing: without
it ai-edge-quantizer does not calibrate.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from contract.ids import digest_of
from contract.manifest import DType, TensorSpec
from converter.errors import (
    AlreadyQuantised,
    InvalidModel,
    NonFiniteWeights,
    UnsupportedOperator,
    UnsupportedTensor,
)
from converter.tflite.flatbuffer import pack, parse, values
from converter.tflite.products import as_layers
from converter.tflite.runner import require_loadable

SIGNATURE = "serving_default"
MAX_NAME = 120
ELEMENT_TYPES: dict[int, DType] = {
    schema.TensorType.FLOAT32: "float32",
    schema.TensorType.FLOAT16: "float16",
    schema.TensorType.INT8: "int8",
    schema.TensorType.UINT8: "uint8",
    schema.TensorType.INT16: "int16",
    schema.TensorType.INT32: "int32",
    schema.TensorType.INT64: "int64",
    schema.TensorType.BOOL: "bool",
}
_QUANTISED = frozenset({schema.BuiltinOperator.QUANTIZE, schema.BuiltinOperator.DEQUANTIZE})
_FOREIGN = frozenset({schema.BuiltinOperator.CUSTOM, schema.BuiltinOperator.DELEGATE})
LAYERS = frozenset(
    {
        schema.BuiltinOperator.BATCH_MATMUL,
        schema.BuiltinOperator.CONV_2D,
        schema.BuiltinOperator.CONV_3D,
        schema.BuiltinOperator.DEPTHWISE_CONV_2D,
        schema.BuiltinOperator.FULLY_CONNECTED,
        schema.BuiltinOperator.TRANSPOSE_CONV,
    }
)
"""Where nearly all work is done."""
_OPERATORS: dict[int, str] = {
    code: name for name, code in vars(schema.BuiltinOperator).items() if isinstance(code, int)
}


@dataclass(frozen=True)
class TfliteModel:
    """A checked float model. `data` is the canonical form, `digest` that of the original bytes."""

    name: str
    data: bytes
    digest: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    layers: tuple[str, ...] = ()
    """What the exporter called the convolutions and matrix products, in their order."""

    @property
    def batch(self) -> int:
        """How many samples one call may hold: -1 for any, 1 when the export fixed it."""
        return max(spec.shape[0] for spec in self.inputs)


def check_tflite(data: bytes, name: str) -> TfliteModel:
    """Check the bytes of the file `name`; raises the `ConvertError` that names what is wrong."""
    require_loadable(data, name)
    model = parse(data, name)
    if len(model.subgraphs) != 1:
        raise UnsupportedOperator(
            f"{name}: {len(model.subgraphs)} graphs; loops and conditions are not supported,"
            " export the model without them"
        )
    _refuse_operators(model, name)
    _refuse_tensors(model, name)
    as_layers(model)
    layers = _layer_names(model)
    inputs, outputs = _name_boundary(model, name)
    _number_inside(model)
    return TfliteModel(name, pack(model), digest_of(data), inputs, outputs, layers)


def operator_name(code: int) -> str:
    """`CONV_2D`, `FULLY_CONNECTED`, ..."""
    return _OPERATORS.get(code, str(code))


def operators(model: Any) -> list[tuple[int, Any]]:
    """(builtin operator, `OperatorT`) of the one graph, in order."""
    codes = [max(c.builtinCode, c.deprecatedBuiltinCode) for c in model.operatorCodes]
    return [(codes[node.opcodeIndex], node) for node in model.subgraphs[0].operators or []]


def _layer_names(model: Any) -> tuple[str, ...]:
    """The first of the names that a fused layer bears, without the graph's path."""
    tensors = model.subgraphs[0].tensors
    names = [
        (tensors[node.outputs[0]].name or b"").split(b";")[0].decode(errors="replace")
        for code, node in operators(model)
        if code in LAYERS
    ]
    return tuple(name[:80] for name in names)


def _refuse_operators(model: Any, name: str) -> None:
    for code, _ in operators(model):
        if code in _FOREIGN:
            raise UnsupportedOperator(
                f"{name}: it has custom or Flex operators, which no device's runtime knows;"
                " export with TFLITE_BUILTINS only"
            )
        if code in _QUANTISED:
            raise AlreadyQuantised(
                f"{name}: it has the operator {_OPERATORS[code]}: the model is quantised already;"
                " give the float32 model it was made from"
            )


def _refuse_tensors(model: Any, name: str) -> None:
    for tensor in model.subgraphs[0].tensors:
        said = tensor.name.decode(errors="replace")[:80]
        found = tensor.quantization
        if found is not None and found.scale is not None and len(found.scale):
            raise AlreadyQuantised(
                f"{name}: tensor {said!r} is quantised already; give the float32 model it was"
                " made from"
            )
        raw = values(model, tensor)
        if raw is None or tensor.type != schema.TensorType.FLOAT32:
            continue
        if raw.size % 4:
            raise InvalidModel(f"{name}: weight {said!r} is damaged; export the model again")
        bad = int((~np.isfinite(raw.view("<f4"))).sum())
        if bad:
            raise NonFiniteWeights(
                f"{name}: weight {said!r} has {bad} NaN or Inf of {raw.size // 4} values; the"
                " training diverged, take an earlier checkpoint"
            )


def _name_boundary(model: Any, name: str) -> tuple[tuple[TensorSpec, ...], tuple[TensorSpec, ...]]:
    """Give inputs and outputs the names that the signature promises, and write the signature."""
    graph = model.subgraphs[0]
    known = (model.signatureDefs or [None])[0]
    for tensor in graph.tensors:
        tensor.name = (tensor.name or b"").split(b";")[0]
    for maps in (known.inputs, known.outputs) if known else ():
        for entry in maps:
            graph.tensors[entry.tensorIndex].name = entry.name
    for place in (*graph.inputs, *graph.outputs):
        graph.tensors[place].name = _plain(graph.tensors[place].name)
    inputs = tuple(_spec(graph.tensors[i], name, "input") for i in graph.inputs)
    outputs = tuple(_spec(graph.tensors[i], name, "output") for i in graph.outputs)
    _check_boundary(inputs, outputs, name)
    model.signatureDefs = [sign(graph)]
    return inputs, outputs


def sign(graph: Any) -> Any:
    """The signature of a graph whose boundary tensors bear their public names."""
    made = schema.SignatureDefT()
    made.signatureKey, made.subgraphIndex = SIGNATURE, 0
    made.inputs = [_entry(graph, place) for place in graph.inputs]
    made.outputs = [_entry(graph, place) for place in graph.outputs]
    return made


def _entry(graph: Any, place: int) -> Any:
    entry = schema.TensorMapT()
    entry.name, entry.tensorIndex = graph.tensors[place].name, int(place)
    return entry


def _plain(name: bytes) -> bytes:
    """`serving_default_input_1:0`, as TensorFlow's converter says it, is `input_1`."""
    if name.startswith(b"serving_default_"):
        name = name[len(b"serving_default_") :]
    return name.rsplit(b":", 1)[0] if name.rsplit(b":", 1)[-1].isdigit() else name


def _spec(tensor: Any, name: str, kind: str) -> TensorSpec:
    said = tensor.name.decode(errors="replace")
    if not 0 < len(said) <= MAX_NAME:
        raise UnsupportedTensor(
            f"{name}: {kind} {said[:40]!r} has a name of {len(said)} characters; 1 to {MAX_NAME}"
        )
    dtype = ELEMENT_TYPES.get(tensor.type)
    if dtype is None:
        raise UnsupportedTensor(
            f"{name}: {kind} {said!r} is not a tensor of {', '.join(ELEMENT_TYPES.values())};"
            " export it as float32"
        )
    signature = tensor.shapeSignature
    shape = tensor.shape if signature is None or len(signature) == 0 else signature
    return TensorSpec(name=said, dtype=dtype, shape=[int(n) for n in shape])


def _check_boundary(
    inputs: tuple[TensorSpec, ...], outputs: tuple[TensorSpec, ...], name: str
) -> None:
    names = [spec.name for spec in (*inputs, *outputs)]
    if not inputs or not outputs or len(set(names)) != len(names):
        raise UnsupportedTensor(
            f"{name}: inputs and outputs are {names}; each needs a name of its own"
        )
    for spec in inputs:
        if not spec.shape or spec.shape[0] not in (-1, 1) or any(n < 1 for n in spec.shape[1:]):
            raise UnsupportedTensor(
                f"{name}: input {spec.name!r} has shape {spec.shape}; the first dimension must be"
                " the batch, dynamic or 1, and all others fixed"
            )
    if len({spec.shape[0] for spec in inputs}) != 1:
        raise UnsupportedTensor(
            f"{name}: some inputs have a fixed batch and some have not; make all of them dynamic"
        )


def _number_inside(model: Any) -> None:
    graph = model.subgraphs[0]
    public = {int(place) for place in (*graph.inputs, *graph.outputs)}
    taken = {graph.tensors[place].name for place in public}
    for place, tensor in enumerate(graph.tensors):
        if place not in public:
            name = b"t%d" % place
            tensor.name = name + b"_" if name in taken else name
