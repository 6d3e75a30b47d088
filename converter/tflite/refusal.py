"""What ai-edge-quantizer said of a model it gave up on, in words of the model's owner.

The tool names tensors, and `converter.tflite.source` has numbered them: `t7` says nothing to
anyone. So a number becomes the operator that takes or gives it. Invents no cause that was not told.
"""

from __future__ import annotations

import re
from typing import Any

from converter.errors import QuantisationFailed
from converter.sessions import first_line
from converter.tflite.flatbuffer import parse, values
from converter.tflite.source import TfliteModel, operator_name, operators

_NUMBERED = re.compile(r"\bt(\d{1,6})_?(?!\w)")


def refused(model: TfliteModel, error: Exception) -> QuantisationFailed:
    """The tool's failure with the file's name and the place in the graph; to be raised `from`."""
    return QuantisationFailed(
        f"{model.name}: ai-edge-quantizer failed ({placed(model, first_line(error))})"
    )


def placed(model: TfliteModel, words: str) -> str:
    """`words` with each numbered tensor told by its operator."""
    if _NUMBERED.search(words) is None:
        return words
    parsed = parse(model.data, model.name)
    return _NUMBERED.sub(lambda found: _said(parsed, found), words)


def _said(model: Any, found: re.Match[str]) -> str:
    """`the constant [8] of MUL, operator 1 of 3`; the word as it was where no tensor has it."""
    tensors, place = model.subgraphs[0].tensors, int(found[1])
    if place >= len(tensors) or tensors[place].name.decode(errors="replace") != found[0]:
        return found[0]
    kind = "result" if values(model, tensors[place]) is None else "constant"
    shape = [int(size) for size in tensors[place].shape]
    nodes = operators(model)
    for at, (code, node) in enumerate(nodes, start=1):
        if place in node.outputs or (kind == "constant" and place in node.inputs):
            return f"the {kind} {shape} of {operator_name(code)}, operator {at} of {len(nodes)}"
    return f"a {kind} {shape}"
