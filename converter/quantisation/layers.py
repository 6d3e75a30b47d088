"""How far each layer's answer is off in the int8 model: the report's list of worst layers.

Errors add up on their way: a layer is charged with what came before it, too. A sharp fall from
one layer to the next is where the harm is done.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import onnx

from converter.evaluate import sqnr_db
from converter.quantisation.calibration import CUTS, Probe
from converter.quantisation.graph import wire
from converter.quantise import LAYERS
from converter.samples import Samples

SAMPLES = 32
_RESTORED = "_DequantizeLinear_Output"
"""What onnxruntime's quantiser calls a tensor that comes back from integers."""


@dataclass(frozen=True)
class LayerError:
    """`sqnr_db` of a layer's answer, int8 against float, on calibration samples."""

    name: str
    operator: str
    sqnr_db: float
    integer: bool


def layer_errors(
    model: onnx.ModelProto, quantised: onnx.ModelProto, samples: Samples, batch: int
) -> list[LayerError]:
    """One for each layer, in the order of the graph; both models are of the same form."""
    ours = _answers(model)
    tensors = {name for node in quantised.graph.node for name in node.output}
    theirs = {
        name: f"{answer}{_RESTORED}" if f"{answer}{_RESTORED}" in tensors else answer
        for name, answer in ours.items()
    }
    compared = {name: answer for name, answer in ours.items() if theirs[name] in tensors}
    few = next(samples.batches(SAMPLES if batch != 1 else 1))
    reference = Probe(model, list(dict.fromkeys(compared.values()))).values(few)
    answers = Probe(quantised, list(dict.fromkeys(theirs[n] for n in compared))).values(few)
    integer = _integer_layers(quantised)
    kinds = {node.name: node.op_type for node in model.graph.node}
    return [
        LayerError(
            name=name,
            operator=kinds[name],
            sqnr_db=sqnr_db({"": reference[answer]}, {"": answers[theirs[name]]}),
            integer=name in integer,
        )
        for name, answer in compared.items()
    ]


def _integer_layers(quantised: onnx.ModelProto) -> set[str]:
    """Names of the layers that read integers only."""
    restored = {n.output[0] for n in quantised.graph.node if n.op_type == "DequantizeLinear"}
    return {
        node.name
        for node in quantised.graph.node
        if node.op_type in LAYERS and set(node.input[:2]) <= restored
    }


def _answers(model: onnx.ModelProto) -> Mapping[str, str]:
    """Layer -> the tensor that holds its answer after the activation."""
    wiring, found = wire(model.graph), {}
    for node in model.graph.node:
        if node.op_type in LAYERS:
            reader = wiring.only_reader(node.output[0])
            cut = reader is not None and reader.op_type in CUTS
            found[node.name] = reader.output[0] if reader is not None and cut else node.output[0]
    return found
