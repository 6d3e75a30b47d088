"""Which output is the classifier's, and what its rows say."""

from __future__ import annotations

import numpy as np
import pytest

from contract.manifest import Quantisation, TensorSpec
from model.answers import answers_of, class_output, is_distribution
from model.errors import InvalidInput
from tests.model.builders import SCORES, rng


def _spec(name: str, shape: list[int]) -> TensorSpec:
    return TensorSpec(name=name, dtype="float32", shape=shape)


def test_the_one_output_of_the_labels_size_is_the_classifiers() -> None:
    boxes, labels = _spec("boxes", [-1, 4]), _spec("labels", [-1])
    assert class_output([boxes, SCORES, labels], [-1], 10) == SCORES
    assert class_output([SCORES], [-1]) == SCORES


@pytest.mark.parametrize(
    ("outputs", "classes"),
    [
        ([SCORES], 9),
        ([SCORES, _spec("more", [-1, 10])], 10),
        ([_spec("value", [-1, 1])], 0),
        ([_spec("label", [-1])], 0),
        ([_spec("mask", [-1, 8, 8, 10])], 10),
        ([_spec("fixed", [5, 10])], 10),
    ],
)
def test_everything_else_is_not_counted_by_class(outputs: list[TensorSpec], classes: int) -> None:
    assert class_output(outputs, [-1], classes) is None


def test_axes_of_one_between_rows_and_classes_do_not_matter() -> None:
    spec = _spec("scores", [-1, 1, 10])
    assert class_output([spec], [-1], 10) == spec
    found = answers_of(spec, {"scores": rng().random((4, 1, 10))}, softmax=True)
    assert found.classes.shape == (4,)


def test_a_distribution_is_told_from_scores() -> None:
    scores = rng().normal(size=(50, 10))
    weights = np.exp(scores)
    assert is_distribution(SCORES, weights / weights.sum(axis=1, keepdims=True))
    assert not is_distribution(SCORES, scores)
    assert not is_distribution(SCORES, np.empty((0, 10)))


def test_a_quantised_softmax_is_a_distribution() -> None:
    spec = TensorSpec(
        name="y", dtype="int8", shape=[-1, 3], quantisation=Quantisation(1 / 256, -128)
    )
    rows = np.array([[127, -128, -128], [0, -64, -64]], np.int8)
    assert is_distribution(spec, rows)
    found = answers_of(spec, {"y": rows}, softmax=False)
    assert found.confidence.tolist() == [1.0, 0.5]


def test_softmax_is_applied_to_scores() -> None:
    scores = np.array([[0.0] * 9 + [np.log(9.0)]])
    found = answers_of(SCORES, {"scores": scores}, softmax=True)
    assert found.classes.tolist() == [9]
    assert found.confidence[0] == pytest.approx(0.5)


def test_huge_scores_do_not_overflow() -> None:
    found = answers_of(SCORES, {"scores": np.array([[3e38] + [-3e38] * 9])}, softmax=True)
    assert found.confidence.tolist() == [1.0]
    assert found.entropy[0] == pytest.approx(0.0, abs=1e-9)


def test_entropy_is_in_nats() -> None:
    found = answers_of(SCORES, {"scores": np.full((1, 10), 0.1)}, softmax=False)
    assert found.entropy[0] == pytest.approx(np.log(10))


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_row_that_is_not_finite_has_no_answer(bad: float) -> None:
    scores = np.full((2, 10), 0.1)
    scores[1, 3] = bad
    found = answers_of(SCORES, {"scores": scores}, softmax=False)
    assert found.classes.tolist() == [0, -1]
    assert np.isnan(found.confidence).tolist() == [False, True]
    assert np.isnan(found.entropy).tolist() == [False, True]


def test_all_zero_rows_are_counted_without_a_warning() -> None:
    found = answers_of(SCORES, {"scores": np.zeros((1, 10))}, softmax=False)
    assert found.confidence.tolist() == [0.0]


def test_an_absent_output_is_refused() -> None:
    with pytest.raises(InvalidInput, match="10 classes"):
        answers_of(SCORES, {}, softmax=False)
    with pytest.raises(InvalidInput, match="10 classes"):
        answers_of(SCORES, {"scores": np.zeros((1, 9))}, softmax=False)
