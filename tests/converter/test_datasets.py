"""The two sets of one conversion: tables agree by the names of their columns."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from contract.manifest import TensorSpec
from contract.processing import Processing, TableInput
from converter import errors
from converter.datasets import Data, read_data
from converter.request import ConvertRequest

SPEC = [TensorSpec(name="x", dtype="float32", shape=[-1, 2])]
CALIBRATION = "width,height\n1,2\n3,4\n5,6\n7,8\n"


def read(tmp_path: Path, evaluation: str | None, **options: object) -> Data:
    calib = tmp_path / "calib.csv"
    if not calib.exists():
        calib.write_text(CALIBRATION)
    if evaluation is not None:
        (tmp_path / "eval.csv").write_text(evaluation)
    fields: dict[str, object] = {
        "model": tmp_path / "m.onnx",
        "calib": calib,
        "evaluation": None if evaluation is None else tmp_path / "eval.csv",
        "family": "f",
        "version": "1",
        "output": tmp_path / "out.bundle",
    }
    request = ConvertRequest(**{**fields, **options})  # type: ignore[arg-type]  # tests pick fields
    return read_data(request, SPEC)


def test_columns_in_another_order_are_matched_by_their_names(tmp_path: Path) -> None:
    found = read(tmp_path, "label,height,width\n0,10,9\n1,12,11\n")
    np.testing.assert_array_equal(found.evaluation.arrays["x"], [[9, 10], [11, 12]])
    assert found.evaluation.labels is not None
    assert found.evaluation.labels.tolist() == [0, 1]


def test_the_held_out_part_has_the_columns_of_its_file(tmp_path: Path) -> None:
    found = read(tmp_path, None)
    np.testing.assert_array_equal(found.evaluation.arrays["x"], [[7, 8]])
    assert found.evaluation.columns == ("width", "height")


@pytest.mark.parametrize(
    ("evaluation", "words"),
    [
        ("height,depth\n1,2\n", "column 'depth' is not one of calib.csv"),
        ("height\n1\n", "no column 'width' as calib.csv has .1 of 2"),
        ("width,height,depth\n1,2,3\n", "column 'depth'"),
        ("Width,height\n1,2\n", "column 'Width'"),
    ],
)
def test_columns_of_other_names_are_refused_by_the_first(
    evaluation: str, words: str, tmp_path: Path
) -> None:
    with pytest.raises(errors.WrongArrays, match=words) as caught:
        read(tmp_path, evaluation)
    assert "eval.csv" in str(caught.value)


def test_a_recipe_names_the_columns_of_both(tmp_path: Path) -> None:
    recipe = TableInput(input="x", columns=["height", "width"])
    evaluation = "more,width,height\n0,9,10\n0,11,12\n"
    found = read(tmp_path, evaluation, processing=Processing(inputs=[recipe]))
    np.testing.assert_array_equal(found.calibration.arrays["x"][0], [2, 1])
    np.testing.assert_array_equal(found.evaluation.arrays["x"][0], [10, 9])


def test_the_label_column_is_asked_of_what_evaluates_alone(tmp_path: Path) -> None:
    found = read(tmp_path, "height,width,digit\n9,10,1\n11,12,0\n", label_column="digit")
    assert found.calibration.labels is None
    assert found.evaluation.labels is not None
    assert found.evaluation.labels.tolist() == [1, 0]


@pytest.mark.parametrize("evaluation", [None, "width,height\n9,10\n"])
def test_what_evaluates_must_have_the_label_column(evaluation: str | None, tmp_path: Path) -> None:
    with pytest.raises(errors.BadLabels, match="no column 'digit'"):
        read(tmp_path, evaluation, label_column="digit")


def test_a_list_of_columns_says_where_it_is_cut(tmp_path: Path) -> None:
    header = ",".join(f"c{place}" for place in range(15))
    (tmp_path / "calib.csv").write_text(header + "\n")
    with pytest.raises(errors.BadLabels, match=r"'c11'\] and 3 more"):
        read(tmp_path, None, label_column="digit")
