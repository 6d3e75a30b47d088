"""The shipped form of a .tflite: the network and its weights, nothing else. Changes no value.

Owns: equal constants that are stored twice, exporters' notes, ranges that no kernel reads, and the
public names of inputs and outputs, which the quantiser has moved.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from contract.manifest import TensorSpec
from converter.errors import FloatBoundary
from converter.tflite.flatbuffer import pack, parse
from converter.tflite.source import sign

KEPT_NOTES = frozenset({b"min_runtime_version"})


def compact(
    data: bytes,
    inputs: Sequence[TensorSpec],
    outputs: Sequence[TensorSpec],
    *,
    integer_io: bool = False,
) -> bytes:
    """The same model as few bytes, its boundary named as in `inputs` and `outputs`, in order.

    Raises `FloatBoundary` when `integer_io` was asked for and the quantiser did not deliver it.
    """
    model = parse(data, "the int8 model")
    graph = model.subgraphs[0]
    graph.name = b""
    for place, tensor in enumerate(graph.tensors):
        tensor.name = b"t%d_" % place
        found = tensor.quantization
        if found is not None:
            found.min = found.max = None
    _name(graph, graph.inputs, inputs, integer_io)
    _name(graph, graph.outputs, outputs, integer_io)
    _drop_notes(model)
    _share_buffers(model)
    model.signatureDefs = [sign(graph)]
    return pack(model)


def _name(graph: Any, places: Sequence[int], specs: Sequence[TensorSpec], integer: bool) -> None:
    for place, spec in zip(places, specs, strict=True):
        tensor = graph.tensors[place]
        tensor.name = spec.name.encode()
        tensor.shapeSignature = np.array(spec.shape, np.int32)
        if integer and spec.dtype == "float32" and tensor.type == schema.TensorType.FLOAT32:
            raise FloatBoundary(
                f"{spec.name!r} is still float32: the operator beside it has no int8 form; leave"
                " the integer boundary out"
            )


def _drop_notes(model: Any) -> None:
    model.description = b""
    model.metadata = [note for note in model.metadata or [] if note.name in KEPT_NOTES]
    model.metadataBuffer = None


def _share_buffers(model: Any) -> None:
    """Keep each content once, in order of use; buffer 0 is the empty one by convention."""
    kept = [schema.BufferT()]
    places: dict[bytes, int] = {b"": 0}
    graph = model.subgraphs[0]
    for holder in (*graph.tensors, *model.metadata):
        data = model.buffers[holder.buffer].data
        content = b"" if data is None else np.asarray(data, dtype=np.uint8).tobytes()
        if content not in places:
            places[content] = len(kept)
            kept.append(schema.BufferT())
            kept[-1].data = np.frombuffer(content, np.uint8)
        holder.buffer = places[content]
    model.buffers = kept
