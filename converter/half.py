"""The float16 variant for CUDA devices: half the bytes, and the type that their tensor cores run.

By onnxruntime's own pass; inputs and outputs stay float32. That pass silently clips weights to
float16's range, and a device would answer Inf where an activation leaves it, so both are looked up
first and refused by name. Accuracy is measured on this machine's CPU, which rounds as CUDA does but
adds up in float32.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.transformers.float16 import convert_float_to_float16

from converter.compact import compact
from converter.errors import BeyondHalf, ModelFailed, QuantisationFailed
from converter.samples import Samples
from converter.sessions import first_line, quiet, session_options

LARGEST = float(np.finfo(np.float16).max)
HEADROOM = 2.0
"""Live inputs may reach further than calibration's: activations must stay below a half of it."""
_BATCH = 8


def make_half(model: onnx.ModelProto, calibration: Samples, batch: int) -> bytes:
    """The float16 form of a canonical float model, compacted.

    Raises `BeyondHalf` that names weight or activation, `QuantisationFailed`, `ModelFailed`.
    """
    refuse_large_weights(model)
    refuse_large_activations(model, calibration, batch)
    try:
        with quiet():
            half = convert_float_to_float16(model, keep_io_types=True)
    except (ValueError, RuntimeError, TypeError, KeyError, AttributeError, IndexError) as error:
        raise QuantisationFailed(
            f"onnxruntime's float16 pass failed ({first_line(error)}); leave --with-cuda out"
        ) from error
    sort_nodes(half.graph)
    return compact(half)


def refuse_large_weights(model: onnx.ModelProto) -> None:
    """Raise `BeyondHalf` for a weight that the pass would clip."""
    for tensor in model.graph.initializer:
        if tensor.data_type == TensorProto.FLOAT:
            largest = float(np.abs(numpy_helper.to_array(tensor)).max(initial=0.0))
            if largest > LARGEST:
                raise _beyond("weight", tensor.name, largest)


def refuse_large_activations(model: onnx.ModelProto, samples: Samples, batch: int) -> None:
    """Raise `BeyondHalf` for an activation that comes near to float16's end on `samples`.

    Every float tensor is watched, one small batch at a time.
    """
    watched = onnx.ModelProto()
    watched.CopyFrom(model)
    known = {value.name for value in watched.graph.output}
    inferred = onnx.shape_inference.infer_shapes(model)
    floats = {
        value.name
        for value in inferred.graph.value_info
        if value.type.tensor_type.elem_type == TensorProto.FLOAT
    }
    made = [name for node in watched.graph.node for name in node.output]
    for name in made:
        if name in floats - known:
            watched.graph.output.append(
                helper.make_tensor_value_info(name, TensorProto.FLOAT, None)
            )
    names = [value.name for value in watched.graph.output]
    for answers in _answers(watched, names, samples, _BATCH if batch < 1 else batch):
        for name, answer in zip(names, answers, strict=True):
            if answer.dtype == np.float32:
                largest = float(np.abs(answer).max(initial=0.0))
                if largest * HEADROOM > LARGEST:
                    raise _beyond("activation", name, largest)


def sort_nodes(graph: onnx.GraphProto) -> None:
    """Makers before readers, else as they stood: the pass puts its casts at the end."""
    makers = {name: place for place, node in enumerate(graph.node) for name in node.output}
    nodes = list(graph.node)
    order: dict[int, None] = {}
    stack = list(range(len(nodes)))[::-1]
    while stack:
        place = stack[-1]
        wanted = [makers[name] for name in nodes[place].input if name in makers]
        missing = [maker for maker in wanted if maker not in order and maker != place]
        if place in order or not missing:
            order[stack.pop()] = None
        else:
            stack.extend(reversed(missing))
    sorted_nodes = [nodes[place] for place in order]
    del graph.node[:]
    graph.node.extend(sorted_nodes)


def _answers(
    model: onnx.ModelProto, names: list[str], samples: Samples, batch: int
) -> Iterator[list[NDArray[Any]]]:
    """Of each batch; these need no batch in front, unlike what a `Runner` answers."""
    try:
        session = onnxruntime.InferenceSession(
            model.SerializeToString(), session_options(), providers=["CPUExecutionProvider"]
        )
        for inputs in samples.batches(batch):
            yield session.run(names, inputs)
    except Exception as error:  # onnxruntime's errors share no base of their own
        raise ModelFailed(f"onnxruntime does not run the model: {first_line(error)}") from error


def _beyond(kind: str, name: str, largest: float) -> BeyondHalf:
    return BeyondHalf(
        f"{kind} {name!r} reaches {largest:.4g}, float16 ends at {LARGEST:.0f}; leave --with-cuda"
        " out, CUDA devices then run another variant"
    )
