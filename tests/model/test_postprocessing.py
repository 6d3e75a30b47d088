"""From scores to named answers."""

from __future__ import annotations

import numpy as np
import pytest

from contract.manifest import Quantisation, TensorSpec
from contract.processing import Classification
from model.errors import InvalidInput
from model.postprocessing import Prediction, classify, softmax

SPEC = TensorSpec(name="y", dtype="float32", shape=[-1, 3])
LABELS = ["cat", "dog", "bird"]
ROWS = np.array([[0.7, 0.1, 0.2], [0.3, 0.3, 0.4]], np.float32)


def places(recipe: Classification, rows: np.ndarray = ROWS) -> list[list[int]]:
    return [[p.place for p in row] for row in classify(recipe, SPEC, LABELS, {"y": rows})]


def test_the_likeliest_class_is_named() -> None:
    found = classify(Classification(output="y"), SPEC, LABELS, {"y": ROWS})
    assert found[0] == [Prediction(0, "cat", float(np.float32(0.7)))]
    assert found[1][0].label == "bird"


def test_the_best_few_come_best_first_and_ties_in_order() -> None:
    assert places(Classification(output="y", top=3)) == [[0, 2, 1], [2, 0, 1]]


def test_more_than_all_is_all() -> None:
    assert places(Classification(output="y", top=50)) == [[0, 2, 1], [2, 0, 1]]


def test_below_the_threshold_nothing_is_told() -> None:
    assert places(Classification(output="y", threshold=0.5)) == [[0], []]


def test_one_class_may_have_a_threshold_of_its_own() -> None:
    recipe = Classification(output="y", top=3, threshold=0.25, thresholds={"cat": 0.8, "dog": 0.0})
    assert places(recipe) == [[1], [2, 1]]


def test_logits_become_probabilities() -> None:
    recipe = Classification(output="y", softmax=True, top=3)
    (row,) = classify(recipe, SPEC, LABELS, {"y": np.array([[1000.0, 999.0, -1000.0]])})
    assert [p.probability for p in row] == pytest.approx([0.731059, 0.268941, 0.0], abs=1e-6)


def test_softmax_adds_up_to_one() -> None:
    assert softmax(np.array([[1.0, 2.0, 3.0], [-5.0, 0.0, 5.0]])).sum(axis=1) == pytest.approx(1)


def test_quantised_scores_are_read_by_their_scale() -> None:
    spec = TensorSpec(
        name="y", dtype="int8", shape=[-1, 3], quantisation=Quantisation(1 / 256, -128)
    )
    (row,) = classify(
        Classification(output="y"), spec, LABELS, {"y": np.array([[64, -128, -64]], np.int8)}
    )
    assert row == [Prediction(0, "cat", 0.75)]


def test_a_class_without_a_name() -> None:
    (row, _) = classify(Classification(output="y"), SPEC, [], {"y": ROWS})
    assert row[0].label == ""


def test_an_answer_that_is_not_finite_is_none() -> None:
    assert places(Classification(output="y"), np.array([[np.nan, 1, 0]])) == [[]]


@pytest.mark.parametrize("array", [None, np.zeros(3), np.zeros((1, 4)), np.zeros((1, 2, 3))])
def test_other_outputs_are_refused(array: np.ndarray | None) -> None:
    outputs = {} if array is None else {"y": array}
    with pytest.raises(InvalidInput, match="'y'"):
        classify(Classification(output="y"), SPEC, LABELS, outputs)
