"""onnxruntime's failures become named errors of one line, and answers are checked."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import helper, numpy_helper

from converter.errors import InvalidOutput, ModelFailed
from converter.latency import ROUNDS, measure_latency
from converter.samples import BATCH, Samples
from converter.sessions import Runner, first_line
from tests.converter import models

IMAGES = Samples("eval.npz", {"image": models.images(BATCH + 3)})


def runner(batch: int = -1) -> Runner:
    made = models.classifier(batch="N" if batch == -1 else batch)
    return Runner(made.SerializeToString(), batch)


def test_all_samples_are_answered_in_order() -> None:
    answers = runner().run(IMAGES)
    assert list(answers) == ["scores"]
    (expected,) = models.run(models.classifier(), image=IMAGES.arrays["image"])
    np.testing.assert_allclose(answers["scores"], expected, atol=1e-6)


def test_a_fixed_batch_gives_the_same_answers() -> None:
    np.testing.assert_allclose(
        runner(1).run(IMAGES)["scores"], runner().run(IMAGES)["scores"], atol=1e-6
    )


def test_bytes_that_do_not_load() -> None:
    with pytest.raises(ModelFailed, match="does not load") as caught:
        Runner(b"nonsense")
    assert "\n" not in str(caught.value)


def test_inputs_that_do_not_run() -> None:
    with pytest.raises(ModelFailed, match="does not run"):
        runner().run_once({"image": np.zeros((1, 1, 3, 3), np.float64)})


def test_an_output_without_a_batch_is_refused() -> None:
    made = models.model(
        [helper.make_node("ReduceSum", ["image"], ["y"], keepdims=0)],
        [models.tensor("image", "N", 1, 8, 8)],
        [models.tensor("y")],
        [],
    )
    with pytest.raises(ModelFailed, match="no batch in front"):
        Runner(made.SerializeToString()).run(IMAGES)


@pytest.mark.parametrize("rows", [1, -1])
def test_a_batch_that_stands_in_the_graph_is_named_with_a_remedy(
    rows: int, capfd: pytest.CaptureFixture[str]
) -> None:
    """Fixed as one it fails in the runtime; as -1 all samples would become one row."""
    made = models.model(
        [helper.make_node("Reshape", ["image", "shape"], ["y"])],
        [models.tensor("image", "N", 1, 8, 8)],
        [models.tensor("y", 1, 64)],
        [numpy_helper.from_array(np.array([1, 64 if rows == 1 else -1]), "shape")],
    )
    with pytest.raises(ModelFailed, match=r"one sample, and fails for .* --fixed-batch"):
        Runner(made.SerializeToString()).run(IMAGES)
    assert capfd.readouterr() == ("", "")


def test_an_answer_that_is_not_finite_is_refused() -> None:
    made = models.model(
        [helper.make_node("Log", ["image"], ["y"])],
        [models.tensor("image", "N", 1, 8, 8)],
        [models.tensor("y", "N", 1, 8, 8)],
        [],
    )
    zeros = Samples("eval.npz", {"image": np.zeros((2, 1, 8, 8), np.float32)})
    with pytest.raises(InvalidOutput, match="'y' has NaN or Inf"):
        Runner(made.SerializeToString()).run(zeros)


def test_what_a_library_said_becomes_one_line() -> None:
    assert first_line(ValueError("a\n  b\tc")) == "a b c"
    assert first_line(ValueError()) == "ValueError"
    assert len(first_line(ValueError("x" * 999))) == 200


def test_latency_is_measured_by_turns_on_single_samples() -> None:
    calls: list[tuple[str, int]] = []

    class Noted(Runner):
        def run_once(self, inputs: dict[str, models.Array]) -> dict[str, models.Array]:
            calls.append(("int8" if self is ours else "float", len(inputs["image"])))
            return super().run_once(inputs)

    content = models.classifier().SerializeToString()
    ours, theirs = Noted(content), Noted(content)
    found = measure_latency(ours, theirs, IMAGES)
    assert 0 < found.rounds <= ROUNDS
    assert found.p50_ms > 0
    assert found.p50_ms_float32 > 0
    assert [name for name, _ in calls[:4]] == ["int8", "float", "int8", "float"]
    assert {count for _, count in calls} == {1}
