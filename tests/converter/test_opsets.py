"""Every opset that is promised, from what its own exporters wrote to an int8 release of opset 17.

The networks here use what changed between opsets: where axes and bounds stand, what an axis means.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from converter.canonical import canonicalise
from converter.convert import convert
from converter.source import OPSETS, read_source
from model.archive import open_bundle
from tests.converter import models
from tests.converter.conftest import Inputs


def spoken(opset: int) -> onnx.ModelProto:
    """The classifier, behind operators as this opset writes them; they leave the image as it is."""
    made = models.classifier(opset=opset)
    made.graph.node[0].input[0] = "bounded"
    nodes, weights = [], []

    def constant(name: str, values: object, kind: type) -> str:
        weights.append(numpy_helper.from_array(np.array(values, kind), name))
        return name

    if opset < 13:
        nodes.append(helper.make_node("Unsqueeze", [models.INPUT], ["five"], axes=[1]))
    else:
        where = constant("where", [1], np.int64)
        nodes.append(helper.make_node("Unsqueeze", [models.INPUT, where], ["five"]))
    if opset < 18:
        nodes.append(helper.make_node("ReduceMean", ["five"], ["four"], axes=[1], keepdims=0))
    else:
        along = constant("along", [1], np.int64)
        nodes.append(helper.make_node("ReduceMean", ["five", along], ["four"], keepdims=0))
    if opset < 11:
        nodes.append(helper.make_node("Clip", ["four"], ["bounded"], min=-9.0, max=9.0))
    else:
        bounds = [constant("low", -9, np.float32), constant("high", 9, np.float32)]
        nodes.append(helper.make_node("Clip", ["four", *bounds], ["bounded"]))
    body = list(made.graph.node)
    del made.graph.node[:]
    made.graph.node.extend([*nodes, *body])
    made.graph.initializer.extend(weights)
    onnx.checker.check_model(made, full_check=True)
    return made


@pytest.mark.parametrize("opset", OPSETS)
def test_what_each_opset_writes_becomes_17_with_the_same_answers(
    tmp_path: Path, opset: int
) -> None:
    made, images = spoken(opset), models.images(8)
    source = read_source(models.save(tmp_path / "in.onnx", made))
    found = canonicalise(source, tmp_path)
    assert [(o.domain, o.version) for o in found.opset_import] == [("", 17)]
    assert found.ir_version == 8
    wanted = models.run(models.classifier(), image=images)[0]
    np.testing.assert_allclose(models.run(found, image=images)[0], wanted, atol=1e-5)


@pytest.mark.parametrize("opset", [11, 21])
def test_the_bounds_of_what_is_promised_become_releases(
    small: Inputs, tmp_path: Path, opset: int
) -> None:
    path = models.save(tmp_path / "in.onnx", spoken(opset))
    made = convert(replace(small.request(), model=path, output=tmp_path / "x.bundle"))
    assert made.manifest.gate.passed
    with open_bundle(made.path) as bundle:
        (variant,) = bundle.manifest.variants
        shipped = onnx.load_from_string(bundle.read(variant.model))
    assert ("", 17) in [(o.domain, o.version) for o in shipped.opset_import]
