"""The same graph gives the same bytes, whatever its exporter called things."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import helper

from converter.frontends.names import tidy
from tests.converter import models


def renamed(model: onnx.ModelProto, prefix: str) -> onnx.ModelProto:
    """The same model as another run of an exporter would name it."""
    made = onnx.ModelProto()
    made.CopyFrom(model)
    kept = {value.name for value in (*made.graph.input, *made.graph.output)}
    for i, node in enumerate(made.graph.node):
        node.name = f"{prefix}/node_{i * 7}"
        node.input[:] = [n if n in kept else f"{prefix}{n}" for n in node.input]
        node.output[:] = [n if n in kept else f"{prefix}{n}" for n in node.output]
    for tensor in made.graph.initializer:
        tensor.name = f"{prefix}{tensor.name}"
    made.graph.input[0].type.tensor_type.shape.dim[0].dim_param = f"unk__{prefix}"
    made.producer_version = made.graph.name = prefix
    return made


def test_two_runs_of_an_exporter_give_the_same_bytes() -> None:
    one, other = (tidy(renamed(models.classifier(), prefix)) for prefix in ("a", "zz"))
    one.producer_version = other.producer_version = ""
    assert one.SerializeToString(deterministic=True) == other.SerializeToString(deterministic=True)


def test_the_answers_and_the_boundary_stay() -> None:
    before = models.classifier()
    after = tidy(before)
    onnx.checker.check_model(after, full_check=True)
    assert [v.name for v in after.graph.input] == [models.INPUT]
    assert [v.name for v in after.graph.output] == [models.OUTPUT]
    images = models.images(8)
    np.testing.assert_array_equal(
        models.run(before, image=images)[0], models.run(after, image=images)[0]
    )


def test_what_no_output_needs_is_dropped() -> None:
    model = models.classifier()
    model.graph.node.append(helper.make_node("Mul", ["logits", "unused"], ["nowhere"]))
    model.graph.initializer.append(models.weight("unused", models.CLASSES))
    after = tidy(model)
    assert "Mul" not in {node.op_type for node in after.graph.node}
    assert len(after.graph.initializer) == len(model.graph.initializer) - 1


def test_names_and_notes_of_the_exporter_are_gone() -> None:
    assert b"somebody" not in tidy(models.classifier()).SerializeToString()


def test_an_inner_name_that_looks_like_ours_does_no_harm() -> None:
    model = models.classifier()
    for node in model.graph.node:
        node.input[:] = ["t3" if name == models.INPUT else name for name in node.input]
    model.graph.input[0].name = "t3"
    after = tidy(model)
    onnx.checker.check_model(after, full_check=True)
    assert sum("t3" in node.output for node in after.graph.node) == 0


def test_a_branch_keeps_what_it_reads_from_around() -> None:
    body = [
        helper.make_graph(
            [helper.make_node("Mul", ["doubled", "factor"], [f"out{i}"])],
            f"branch{i}",
            [],
            [models.tensor(f"out{i}", "N", 3)],
        )
        for i in range(2)
    ]
    model = models.model(
        [
            helper.make_node("Add", ["x", "x"], ["doubled"]),
            helper.make_node("If", ["yes"], ["y"], then_branch=body[0], else_branch=body[1]),
        ],
        [models.tensor("x", "N", 3)],
        [models.tensor("y", "N", 3)],
        [
            onnx.numpy_helper.from_array(np.array(True), "yes"),
            models.weight("factor", 3),
        ],
    )
    after = tidy(model)
    onnx.checker.check_model(after, full_check=True)
    x = np.ones((2, 3), np.float32)
    np.testing.assert_array_equal(models.run(model, x=x)[0], models.run(after, x=x)[0])


def test_an_ir_that_older_runtimes_do_not_load_is_lowered() -> None:
    model = models.classifier()
    model.ir_version = 10
    assert tidy(model).ir_version == 8
