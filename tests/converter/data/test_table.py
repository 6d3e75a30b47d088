"""CSV files: columns by name, labels apart, and every bad cell named by line and column."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from contract.manifest import TensorSpec
from contract.processing import ImageInput, Processing, TableInput
from converter import errors
from converter.data import raw, rows, table
from converter.data.raw import Reading
from converter.samples import Samples, read_samples

SPEC = [TensorSpec(name="x", dtype="float32", shape=[-1, 2])]
GOOD = "width,height,label\n1,2,cat\n3.5,-4e1,dog\n\n5,6,cat\n"


@pytest.fixture(params=["memory", "disk"], autouse=True)
def place(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Where the samples are kept: every test here holds for both."""
    if request.param == "disk":
        monkeypatch.setattr(rows, "IN_MEMORY_BYTES", 0)
        monkeypatch.setattr(table, "_BLOCK_VALUES", 3)
    return str(request.param)


def read(tmp_path: Path, text: str | bytes, **options: Any) -> Samples:
    path = tmp_path / "set.csv"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return read_samples(path, SPEC, Reading(**options))


def refused(
    tmp_path: Path, text: str | bytes, kind: type[errors.ConvertError], words: str, **options: Any
) -> None:
    with pytest.raises(kind, match=words) as caught:
        read(tmp_path, text, **options)
    assert "set.csv" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_columns_become_features_and_the_label_column_labels(tmp_path: Path) -> None:
    found = read(tmp_path, GOOD, classes=("dog", "cat"))
    np.testing.assert_array_equal(found.arrays["x"], [[1, 2], [3.5, -40], [5, 6]])
    assert found.arrays["x"].dtype == np.float32
    assert found.labels is not None
    assert found.labels.tolist() == [1, 0, 1]
    assert found.said(2) == "sample 2 (line 5)"


def test_labels_may_be_numbers(tmp_path: Path) -> None:
    found = read(tmp_path, "a,b,kind\n1,2,0\n3,4,1.0\n", label_column="kind")
    assert found.labels is not None
    assert found.labels.tolist() == [0, 1]


def test_a_number_is_a_name_where_all_classes_are_called_by_numbers(tmp_path: Path) -> None:
    table = "a,b,label\n1,2,30\n3,4,20.0\n"
    found = read(tmp_path, table, classes=("20", "30"))
    assert found.labels is not None
    assert found.labels.tolist() == [1, 0]
    refused(tmp_path, "a,b,label\n1,2,1\n", errors.BadLabels, "'1' is no", classes=("20", "30"))


def test_a_table_without_labels(tmp_path: Path) -> None:
    assert read(tmp_path, "a,b\n1,2\n3,4\n").labels is None


def test_a_mark_of_byte_order_is_no_part_of_the_first_name(tmp_path: Path) -> None:
    assert len(read(tmp_path, b"\xef\xbb\xbflabel,a,b\r\n0,1,2\r\n1,3,4\r\n")) == 2


def test_the_recipe_picks_orders_and_scales_columns(tmp_path: Path) -> None:
    recipe = TableInput(input="x", columns=["height", "width"], mean=[1.0, 0.0], std=[1.0, 2.0])
    found = read(tmp_path, GOOD, processing=Processing(inputs=[recipe]), classes=("cat", "dog"))
    np.testing.assert_array_equal(found.arrays["x"], [[1, 0.5], [-41, 1.75], [5, 2.5]])


def test_a_column_of_the_recipe_that_is_not_there(tmp_path: Path) -> None:
    recipes = Processing(inputs=[TableInput(input="x", columns=["width", "depth"])])
    refused(tmp_path, GOOD, errors.WrongArrays, "'depth'.*1 of 2", processing=recipes)


def test_a_recipe_of_another_kind(tmp_path: Path) -> None:
    recipes = Processing(inputs=[ImageInput(input="x", height=2, width=2)])
    refused(tmp_path, GOOD, errors.WrongArrays, "folder", processing=recipes)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "0 columns"),
        ("1,2\n3,4\n", "must name the columns"),
        ("a,a\n1,2\n", "name each column once"),
        ("a,\n1,2\n", "name each column once"),
        ("a;b;label\n1,5;2;0\n", "separated by semicolons; export it with commas"),
        ("a\tb\n1\t2\n", "separated by tabs"),
        ("a,b\n1,2,3\n", "line 2 has 3 cells, the header 2"),
        ("a,b\n1,2\n3,x\n", "line 3, column 'b': 'x' is no number"),
        ("a,b\n1,2\n3,\n", "line 3, column 'b': '' is no number"),
        ('a,b\n1,"2\n', "comma-separated"),
        (b"a,b\n\xff\xfe,2\n", "UTF-8"),
        ("a,b\n1," + "9" * 200_000 + "\n", "comma-separated"),
    ],
)
def test_what_is_no_table_is_refused(tmp_path: Path, text: str | bytes, words: str) -> None:
    refused(tmp_path, text, errors.SamplesUnreadable, words)


def test_a_number_that_is_not_finite_is_named_by_its_line(tmp_path: Path) -> None:
    refused(tmp_path, "a,b\n1,2\nnan,4\n", errors.NonFiniteSamples, r"sample 1 \(line 3\)")


def test_an_unknown_class_is_named(tmp_path: Path) -> None:
    refused(tmp_path, GOOD, errors.BadLabels, "line 3: 'dog'", classes=("cat", "bird"))


def test_a_label_column_that_is_not_there(tmp_path: Path) -> None:
    refused(tmp_path, GOOD, errors.BadLabels, "'kind'", label_column="kind")


def test_another_number_of_columns_than_the_models(tmp_path: Path) -> None:
    refused(tmp_path, "a,b,c\n1,2,3\n", errors.WrongShape, r"\[N, 2\]")


def test_a_header_alone_is_no_data(tmp_path: Path) -> None:
    refused(tmp_path, "a,b\n", errors.NoSamples, "no samples")


def test_a_table_beyond_the_bound(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(raw, "MAX_DATA_BYTES", 40)
    refused(tmp_path, GOOD, errors.SamplesUnreadable, "too long")


def test_a_table_longer_than_the_bound(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows, "MAX_SAMPLES", 2)
    refused(tmp_path, GOOD, errors.SamplesUnreadable, "3 samples; at most 2")
