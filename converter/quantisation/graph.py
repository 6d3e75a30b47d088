"""Who makes and who reads each tensor of a graph, and its constants as arrays. Changes nothing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import onnx
from numpy.typing import NDArray
from onnx import numpy_helper


@dataclass(frozen=True)
class Wiring:
    """A graph by tensor name. `outputs`: what the model itself answers."""

    makers: Mapping[str, onnx.NodeProto]
    readers: Mapping[str, tuple[onnx.NodeProto, ...]]
    constants: Mapping[str, onnx.TensorProto]
    outputs: frozenset[str]

    def only_reader(self, tensor: str) -> onnx.NodeProto | None:
        """The one node that reads `tensor`, if it is one and the model does not answer it."""
        readers = self.readers.get(tensor, ())
        return readers[0] if len(readers) == 1 and tensor not in self.outputs else None

    def array(self, name: str) -> NDArray[Any] | None:
        """The constant's values, or None when `name` is no constant."""
        found = self.constants.get(name)
        return None if found is None else numpy_helper.to_array(found)


def wire(graph: onnx.GraphProto) -> Wiring:
    """Read the wiring of `graph` as it is now."""
    readers: dict[str, list[onnx.NodeProto]] = {}
    for node in graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)
    return Wiring(
        makers={name: node for node in graph.node for name in node.output},
        readers={name: tuple(nodes) for name, nodes in readers.items()},
        constants={tensor.name: tensor for tensor in graph.initializer},
        outputs=frozenset(value.name for value in graph.output),
    )


def attribute(node: onnx.NodeProto, name: str, default: Any) -> Any:
    """The attribute's value, or `default` where the node does not give it."""
    for found in node.attribute:
        if found.name == name:
            return onnx.helper.get_attribute_value(found)
    return default
