"""One release, one interface: the TFLite variant's tensors under the names of the ONNX one.

A client must not have to know which variant its device runs. Renames only; where shape or type
differ, the two forms are not interchangeable and that is said.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import msgspec

from contract.manifest import TensorSpec
from converter.errors import VariantsDisagree
from converter.tflite.flatbuffer import pack, parse
from converter.tflite.source import TfliteModel, sign

Specs = tuple[TensorSpec, ...]


def named_like(
    model: TfliteModel, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]
) -> TfliteModel:
    """`model` with the names of `inputs` and `outputs`; raises `VariantsDisagree`.

    Tensors are matched by name where all names agree, else by their order.
    """
    new_inputs = _matched(model.name, "input", model.inputs, inputs)
    new_outputs = _matched(model.name, "output", model.outputs, outputs)
    if (new_inputs, new_outputs) == (model.inputs, model.outputs):
        return model
    parsed = parse(model.data, model.name)
    graph = parsed.subgraphs[0]
    for place, tensor in enumerate(graph.tensors):
        tensor.name = b"t%d_" % place
    for places, specs in ((graph.inputs, new_inputs), (graph.outputs, new_outputs)):
        for place, spec in zip(places, specs, strict=True):
            graph.tensors[place].name = spec.name.encode()
    parsed.signatureDefs = [sign(graph)]
    return replace(model, data=pack(parsed), inputs=new_inputs, outputs=new_outputs)


def _matched(name: str, kind: str, ours: Specs, wanted: Sequence[TensorSpec]) -> Specs:
    """Our specs, in our order, under the wanted names."""
    by_name = {spec.name: spec for spec in wanted}
    same_names = set(by_name) == {spec.name for spec in ours}
    pairs = [
        (spec, by_name[spec.name] if same_names else other)
        for spec, other in zip(ours, wanted, strict=False)
    ]
    if len(ours) != len(wanted) or any(not _alike(one, other) for one, other in pairs):
        raise VariantsDisagree(
            f"{name}: the TFLite form's {kind}s are {_said(ours)}, the ONNX form's"
            f" {_said(wanted)}; convert the two apart, or keep the layout when exporting"
        )
    return tuple(msgspec.structs.replace(spec, name=other.name) for spec, other in pairs)


def _alike(one: TensorSpec, other: TensorSpec) -> bool:
    return one.dtype == other.dtype and one.shape[1:] == other.shape[1:]


def _said(specs: Sequence[TensorSpec]) -> str:
    return ", ".join(f"{s.name} {s.dtype} {['N', *s.shape[1:]]}" for s in specs).replace("'", "")
