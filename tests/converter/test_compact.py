"""The shipped bytes: same answers, no leftovers, no notes, weights in the order of their use."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from converter.canonical import canonicalise
from converter.compact import compact, drop_tail_pairs
from converter.int8 import Int8Model, make_int8
from converter.quantise import quantise
from converter.samples import Samples, read_samples
from converter.source import read_source
from tests.converter import models
from tests.converter.calibrated import plain_ranges
from tests.converter.conftest import DIGITS, Inputs


def quantised(tmp_path: Path) -> onnx.ModelProto:
    source = read_source(models.save(tmp_path / "in.onnx", models.classifier()))
    model = canonicalise(source, tmp_path)
    ranges = plain_ranges(model, Samples("c", {"image": models.images(40)}))
    return quantise(model, ranges)[0]


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[onnx.ModelProto, bytes]:
    """What the quantiser left, and its compact form."""
    made = quantised(tmp_path_factory.mktemp("compact"))
    return made, compact(made)


def graph(pair: tuple[onnx.ModelProto, bytes]) -> onnx.GraphProto:
    return onnx.load_from_string(pair[1]).graph


def test_the_answers_stay_within_one_rounding(pair: tuple[onnx.ModelProto, bytes]) -> None:
    images = models.images(20, seed=8)
    before, after = models.run(pair[0], image=images)[0], models.run(pair[1], image=images)[0]
    np.testing.assert_allclose(before, after, atol=0.02)


def test_it_is_smaller(pair: tuple[onnx.ModelProto, bytes]) -> None:
    assert len(pair[1]) < 0.8 * len(pair[0].SerializeToString())


def test_no_trace_of_the_exporter_is_left(pair: tuple[onnx.ModelProto, bytes]) -> None:
    made = onnx.load_from_string(pair[1])
    assert b"/home/somebody" not in pair[1]
    assert b"somebody" not in pair[1]
    assert not made.metadata_props
    assert not made.producer_name
    assert not made.graph.value_info


def test_it_loads_where_only_opset_17_and_ir_8_do(pair: tuple[onnx.ModelProto, bytes]) -> None:
    made = onnx.load_from_string(pair[1])
    assert made.ir_version == 8
    assert [(o.domain, o.version) for o in made.opset_import] == [("", 17)]


def test_inputs_and_outputs_keep_their_names(pair: tuple[onnx.ModelProto, bytes]) -> None:
    found = graph(pair)
    assert [value.name for value in found.input] == ["image"]
    assert [value.name for value in found.output] == ["scores"]


def test_weights_stand_in_the_order_of_their_use(pair: tuple[onnx.ModelProto, bytes]) -> None:
    found = graph(pair)
    weights = [tensor.name for tensor in found.initializer]
    used = [name for node in found.node for name in node.input if name in set(weights)]
    assert weights == list(dict.fromkeys(used))


def test_no_constant_stands_there_twice(pair: tuple[onnx.ModelProto, bytes]) -> None:
    found = graph(pair)
    points = {n.input[2] for n in found.node if n.op_type.endswith("eLinear")}
    values = [
        (t.data_type, tuple(t.dims), t.raw_data) for t in found.initializer if t.name in points
    ]
    assert len(set(values)) == len(values)


def test_the_head_answers_in_float_itself(pair: tuple[onnx.ModelProto, bytes]) -> None:
    found = graph(pair)
    (gemm,) = [node for node in found.node if node.op_type == "Gemm"]
    (softmax,) = [node for node in found.node if node.op_type == "Softmax"]
    assert gemm.output[0] == softmax.input[0]
    before = [node.op_type for node in pair[0].graph.node]
    after = [node.op_type for node in found.node]
    assert before.count("QuantizeLinear") - after.count("QuantizeLinear") == 1


def tail(last: str, *, reader: bool = False) -> onnx.GraphProto:
    """x -> `last` -> Q -> DQ -> y, and perhaps a second reader of the quantised value."""
    nodes = [
        helper.make_node(last, ["x", "w"], ["h"]),
        helper.make_node("QuantizeLinear", ["h", "s", "z"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "s", "z"], ["y"]),
    ]
    outputs = [models.tensor("y", "N", 4)]
    if reader:
        nodes.append(helper.make_node("DequantizeLinear", ["q", "s", "z"], ["again"]))
        outputs.append(models.tensor("again", "N", 4))
    weights = [models.weight("w", 4, 4), models.weight("s", 1), models.weight("z", 1)]
    return models.model(nodes, [models.tensor("x", "N", 4)], outputs, weights).graph


def test_a_pair_before_the_models_output_goes() -> None:
    found = tail("MatMul")
    drop_tail_pairs(found)
    assert [node.op_type for node in found.node] == ["MatMul"]
    assert found.node[0].output[0] == "y"


def test_a_pair_that_an_integer_layer_needs_stays() -> None:
    found = tail("Conv")
    drop_tail_pairs(found)
    assert len(found.node) == 3


def test_a_pair_that_somebody_else_reads_stays() -> None:
    found = tail("MatMul", reader=True)
    drop_tail_pairs(found)
    assert len(found.node) == 4


def test_compacting_twice_changes_nothing(pair: tuple[onnx.ModelProto, bytes]) -> None:
    assert compact(onnx.load_from_string(pair[1])) == pair[1]


def test_names_given_by_an_exporter_do_not_matter(tmp_path: Path) -> None:
    plain, renamed = models.classifier(), models.classifier()
    for node in renamed.graph.node:
        node.name = f"StatefulPartitionedCall/{node.name}"
        node.output[:] = [n if n == "scores" else f"long/{n}" for n in node.output]
        node.input[:] = [f"long/{n}" if f"long/{n}" in outputs(renamed) else n for n in node.input]
    assert compact(renamed) == compact(plain)


def outputs(made: onnx.ModelProto) -> set[str]:
    return {name for node in made.graph.node for name in node.output}


def test_a_name_taken_by_an_input_is_not_given_again() -> None:
    made = models.model(
        [helper.make_node("Gemm", ["w1", "b"], ["h"]), helper.make_node("Relu", ["h"], ["t1"])],
        [models.tensor("w1", "N", 4)],
        [models.tensor("t1", "N", 4)],
        [models.weight("b", 4, 4)],
    )
    x = np.ones((2, 4), np.float32)
    np.testing.assert_array_equal(models.run(made, w1=x)[0], models.run(compact(made), w1=x)[0])


def test_graphs_within_a_graph_keep_their_names(tmp_path: Path) -> None:
    inner = helper.make_graph(
        [helper.make_node("Mul", ["h", "k"], ["out"])], "then", [], [models.tensor("out", "N", 4)]
    )
    other = helper.make_graph(
        [helper.make_node("Identity", ["h"], ["out2"])], "else", [], [models.tensor("out2", "N", 4)]
    )
    made = models.model(
        [
            helper.make_node("Gemm", ["x", "w"], ["h"]),
            helper.make_node("If", ["yes"], ["y"], then_branch=inner, else_branch=other),
        ],
        [models.tensor("x", "N", 4)],
        [models.tensor("y", "N", 4)],
        [
            models.weight("w", 4, 4),
            models.weight("k", 4),
            numpy_helper.from_array(np.array(True), "yes"),
        ],
    )
    x = np.ones((2, 4), np.float32)
    np.testing.assert_array_equal(models.run(made, x=x)[0], models.run(compact(made), x=x)[0])


# Reuse of chunks


def convert_digits(name: str, digits: Inputs, work: Path) -> Int8Model:
    source = read_source(DIGITS / name)
    calibration = read_samples(digits.calib, source.inputs)
    model = canonicalise(source, work)
    return make_int8(model, calibration, source.batch, work, lambda share: None)


def test_a_retrained_last_layer_changes_the_end_of_the_file_only(
    digits: Inputs, tmp_path: Path
) -> None:
    first = convert_digits("digits-1.onnx", digits, tmp_path).data
    second = convert_digits("digits-2.onnx", digits, tmp_path).data
    assert len(first) == len(second)
    same = next(i for i in range(len(first)) if first[i] != second[i])
    assert same > 0.95 * len(first)
