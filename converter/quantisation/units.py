"""The parts of a graph that are float or integer together: producer, activation, consumers.

A tensor is free of rounding only when the node that makes it and all that read it are float; so
these, and not single nodes, are what mixed precision chooses among.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import onnx

from converter.quantisation.calibration import CUTS, PASSED_ON, activations
from converter.quantisation.graph import Wiring, wire
from converter.quantise import OPERATORS

TRANSPARENT = CUTS | PASSED_ON | {"Identity", "Dropout"}
"""They take their input's scale, so they belong to whatever makes it."""


@dataclass(frozen=True)
class Unit:
    """`nodes`: names. `tensor`: what they make or read in common."""

    tensor: str
    nodes: frozenset[str]


def find_units(model: onnx.ModelProto) -> list[Unit]:
    """All units, in the order of the graph; no two hold the same nodes."""
    wiring, known = wire(model.graph), set(activations(model))
    starts = [value.name for value in model.graph.input if value.name in known]
    for node in model.graph.node:
        if node.op_type not in TRANSPARENT:
            starts += [name for name in node.output if name in known]
    units = {unit.nodes: unit for unit in reversed([_unit(start, wiring) for start in starts])}
    return [unit for unit in reversed(units.values()) if unit.nodes]


def quantisable(model: onnx.ModelProto) -> frozenset[str]:
    """Names of all nodes that have an integer form."""
    return frozenset(node.name for node in model.graph.node if node.op_type in OPERATORS)


def outside(model: onnx.ModelProto, units: Iterable[Unit]) -> frozenset[str]:
    """Names of the quantisable nodes that are in none of `units`."""
    inside = frozenset(name for unit in units for name in unit.nodes)
    return quantisable(model) - inside


def _unit(start: str, wiring: Wiring) -> Unit:
    maker = wiring.makers.get(start)
    nodes = {maker.name} if maker is not None and maker.op_type in OPERATORS else set()
    front = [start]
    while front:
        for reader in wiring.readers.get(front.pop(), ()):
            if reader.op_type in OPERATORS:
                nodes.add(reader.name)
            if reader.op_type in TRANSPARENT:
                front.append(reader.output[0])
    return Unit(start, frozenset(nodes))
