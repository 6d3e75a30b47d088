"""What candidates are judged by: scores before the softmax, and the same answers."""

from __future__ import annotations

import numpy as np
import onnx

from converter.evaluate import SQNR_CEILING_DB
from converter.quantisation.scoring import MAX_SAMPLES, Judge, agreement, expose_scores
from converter.samples import Samples
from tests.converter import models
from tests.converter.calibrated import inferred
from tests.converter.quantisation.networks import chain, samples


def nudged(by: float) -> onnx.ModelProto:
    """The classifier with one weight of its last layer moved."""
    made = models.classifier()
    weights = next(t for t in made.graph.initializer if t.name == "d.b")
    values = onnx.numpy_helper.to_array(weights) + np.array([by, 0, 0, 0, 0], np.float32)
    models.replace_weight(made, "d.b", values)
    return made


def test_the_scores_before_the_softmax_are_exposed() -> None:
    made, names = expose_scores(models.classifier())
    assert names == ["logits"]
    assert [output.name for output in made.graph.output] == ["logits"]


def test_a_model_without_softmax_is_compared_by_its_output() -> None:
    made, names = expose_scores(chain())
    assert names == ["scores"]
    assert [output.name for output in made.graph.output] == ["scores"]


def test_the_model_itself_scores_highest() -> None:
    judge = Judge(models.classifier(), samples(), -1)
    found = judge.score(models.classifier())
    assert (found.sqnr_db, found.agreement) == (SQNR_CEILING_DB, 100.0)


def test_a_move_that_the_softmax_would_hide_is_seen() -> None:
    judge = Judge(models.classifier(), samples(), -1)
    small, large = judge.score(nudged(0.05)), judge.score(nudged(0.5))
    assert small.agreement == large.agreement == 100.0
    assert SQNR_CEILING_DB > small.sqnr_db > large.sqnr_db + 15


def test_no_more_samples_than_needed_are_run() -> None:
    many = Samples("c", {"image": np.zeros((MAX_SAMPLES + 9, 1, 8, 8), np.float32)})
    answers = Judge(inferred(chain()), many, -1)._reference
    assert {len(array) for array in answers.values()} == {MAX_SAMPLES}


def test_classes_agree_by_their_top_place() -> None:
    ours = {"a": np.array([[1, 2], [3, 1], [0, 1], [5, 4]], np.float32)}
    theirs = {"a": np.array([[9, 10], [1, 3], [-1, 1], [5, 4]], np.float32)}
    assert agreement(ours, theirs) == 75.0


def test_single_values_agree_when_they_are_near() -> None:
    ours = {"a": np.array([[0.0], [10.0], [5.0], [5.0]], np.float32)}
    theirs = {"a": np.array([[0.4], [10.4], [5.6], [5.0]], np.float32)}
    assert agreement(ours, theirs) == 75.0


def test_every_output_has_to_agree() -> None:
    ours = {
        "a": np.array([[1, 2], [3, 1]], np.float32),
        "b": np.array([[1, 2], [3, 1]], np.float32),
    }
    theirs = {**ours, "b": np.array([[2, 1], [3, 1]], np.float32)}
    assert agreement(ours, theirs) == 50.0
