"""The figures: pure arithmetic, checked on answers small enough to count by hand."""

from __future__ import annotations

import numpy as np
import pytest

from contract.manifest import TensorSpec
from converter.errors import BadLabels, UnsupportedTensor
from converter.evaluate import SQNR_CEILING_DB, compare, sqnr_db, top_class
from converter.outputs import find_classes, output_specs
from tests.converter.models import Array

SCORES = TensorSpec(name="y", dtype="float32", shape=[-1, 3])
FLOAT = np.array([[0.9, 0.1, 0], [0.1, 0.8, 0.1], [0, 0.2, 0.8], [0.6, 0.4, 0]], np.float32)
INT8 = np.array([[0.8, 0.2, 0], [0.1, 0.9, 0.0], [0, 0.1, 0.9], [0.4, 0.6, 0]], np.float32)
LABELS = np.array([0, 1, 2, 1])


def outputs(array: Array) -> dict[str, Array]:
    return {"y": array}


def test_accuracy_and_agreement_are_in_percent() -> None:
    found = compare(outputs(FLOAT), outputs(INT8), LABELS, SCORES)
    assert found.samples == 4
    assert found.agreement == 75.0
    assert found.accuracy == 100.0
    assert found.accuracy_float32 == 75.0
    assert found.majority == 50.0


def test_without_labels_there_is_no_accuracy() -> None:
    found = compare(outputs(FLOAT), outputs(INT8), None, SCORES)
    assert (found.accuracy, found.accuracy_float32, found.majority) == (None, None, None)
    assert found.agreement == 75.0


def test_sqnr_is_the_ratio_of_energies() -> None:
    signal = np.full((5, 2), 10.0, np.float32)
    assert sqnr_db(outputs(signal), outputs(signal + 1)) == 20.0


def test_equal_answers_have_the_ceiling_that_json_can_hold() -> None:
    assert sqnr_db(outputs(FLOAT), outputs(FLOAT)) == SQNR_CEILING_DB


def test_noise_on_silence_has_the_floor() -> None:
    silence = np.zeros((2, 2), np.float32)
    assert sqnr_db(outputs(silence), outputs(silence + 1)) == -SQNR_CEILING_DB


def test_other_outputs_agree_when_all_their_values_are_near() -> None:
    ours = {"a": np.array([[0.0], [10.0], [5.0]]), "b": np.array([[1.0], [2.0], [3.0]])}
    theirs = {"a": np.array([[0.4], [10.0], [5.6]]), "b": np.array([[1.0], [2.0], [3.0]])}
    assert compare(ours, theirs, None, None).agreement == pytest.approx(66.667)


def test_outputs_beside_the_classes_are_judged_by_their_values() -> None:
    boxes = np.arange(8, dtype=np.float32).reshape(4, 2, 1)
    ours = {**outputs(FLOAT), "boxes": boxes}
    theirs = {**outputs(FLOAT), "boxes": boxes + np.array([0, 0, 0, 3]).reshape(4, 1, 1)}
    for labels in (LABELS, None):
        found = compare(ours, theirs, labels, SCORES)
        assert found.agreement == 100.0
        assert found.values == {"boxes": 75.0}


def test_the_class_itself_beside_its_scores_is_not_judged_again() -> None:
    labelled = {**outputs(FLOAT), "label": FLOAT.argmax(axis=1)}
    assert compare(labelled, labelled, LABELS, SCORES).values == {}


def test_numbers_that_only_look_like_scores_are_judged_by_their_values() -> None:
    """A regression of two numbers: which of them is larger tells nothing of either."""
    ours = outputs(np.array([[9.0, 1.0, 0.0], [8.0, 2.0, 0.0], [7.0, 0.0, 1.0]], np.float32))
    theirs = outputs(ours["y"] * np.float32(0.5))
    found = compare(ours, theirs, None, SCORES)
    assert (found.agreement, found.values) == (100.0, {"y": 0.0})
    assert compare(ours, theirs, LABELS[:3], SCORES).values == {}


def test_labels_of_a_model_without_classes_are_refused() -> None:
    with pytest.raises(BadLabels, match="remove them"):
        compare(outputs(FLOAT), outputs(INT8), LABELS, None)


@pytest.mark.parametrize("bad", [3, -1, 99])
def test_a_label_beyond_the_classes_is_named(bad: int) -> None:
    labels = np.array([0, 1, bad, 1])
    with pytest.raises(BadLabels, match=rf"label {bad} of sample 2 .* 3 classes"):
        compare(outputs(FLOAT), outputs(INT8), labels, SCORES)


def test_the_top_class_of_deeper_outputs() -> None:
    spec = TensorSpec(name="y", dtype="float32", shape=[-1, 1, 3])
    assert top_class(outputs(FLOAT[:, None, :]), spec).tolist() == [0, 1, 2, 0]


# What the outputs are


def test_specs_are_read_off_the_answers() -> None:
    specs = output_specs({"a": FLOAT, "b": np.zeros((4, 2, 2), np.int64)}, -1)
    assert [(s.name, s.dtype, s.shape) for s in specs] == [
        ("a", "float32", [-1, 3]),
        ("b", "int64", [-1, 2, 2]),
    ]


def test_a_fixed_batch_stands_in_the_specs() -> None:
    assert output_specs(outputs(FLOAT), 1)[0].shape == [1, 3]


def test_an_output_of_an_unserved_type_is_refused() -> None:
    with pytest.raises(UnsupportedTensor, match="float64"):
        output_specs(outputs(FLOAT.astype(np.float64)), -1)


def test_the_one_output_of_scores_is_found() -> None:
    assert find_classes([SCORES], []) == SCORES
    assert find_classes([SCORES], ["a", "b", "c"]) == SCORES


def test_two_outputs_of_scores_are_told_apart_by_the_labels() -> None:
    embedding = TensorSpec(name="e", dtype="float32", shape=[-1, 64])
    assert find_classes([SCORES, embedding], []) is None
    assert find_classes([SCORES, embedding], ["a", "b", "c"]) == SCORES


def test_label_names_of_another_number_are_refused() -> None:
    with pytest.raises(BadLabels, match="2 label names"):
        find_classes([SCORES], ["a", "b"])
