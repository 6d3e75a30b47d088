"""A lone array in an .npy file; archives of arrays are tested with the samples."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from contract.manifest import TensorSpec
from converter import errors
from converter.data import raw
from converter.samples import read_samples

ONE = [TensorSpec(name="x", dtype="float32", shape=[-1, 3])]
TWO = [*ONE, TensorSpec(name="y", dtype="float32", shape=[-1, 3])]
VALUES = np.arange(12, dtype=np.float32).reshape(4, 3)


def saved(tmp_path: Path, array: np.ndarray = VALUES) -> Path:
    path = tmp_path / "set.npy"
    np.save(path, array, allow_pickle=array.dtype == object)
    return path


def refused(path: Path, kind: type[errors.ConvertError], words: str) -> None:
    with pytest.raises(kind, match=words) as caught:
        read_samples(path, ONE)
    assert "set.npy" in str(caught.value)


def test_one_array_is_the_one_input(tmp_path: Path) -> None:
    found = read_samples(saved(tmp_path), ONE)
    np.testing.assert_array_equal(found.arrays["x"], VALUES)
    assert found.labels is None


def test_one_array_cannot_be_two_inputs(tmp_path: Path) -> None:
    with pytest.raises(errors.WrongArrays, match=r"'x', 'y'; give an \.npz"):
        read_samples(saved(tmp_path), TWO)


def test_pickles_are_never_loaded(tmp_path: Path) -> None:
    refused(
        saved(tmp_path, np.array([{"a": 1}], dtype=object)), errors.SamplesUnreadable, "objects"
    )


def test_a_truncated_array(tmp_path: Path) -> None:
    path = saved(tmp_path)
    path.write_bytes(path.read_bytes()[:-8])
    refused(path, errors.SamplesUnreadable, "readable .npy")


def test_a_header_that_promises_terabytes(tmp_path: Path) -> None:
    path = saved(tmp_path)
    path.write_bytes(path.read_bytes().replace(b"(4, 3), }       ", b"(99999999999, 3)"[:16]))
    refused(path, errors.SamplesUnreadable, "readable .npy")


@pytest.mark.parametrize("content", [b"", b"text", b"\x93NUMPY\x01\x00"])
def test_what_is_no_array(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "set.npy"
    path.write_bytes(content)
    refused(path, errors.SamplesUnreadable, "readable .npy")


def test_a_file_beyond_the_bound(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(raw, "MAX_DATA_BYTES", 100)
    refused(saved(tmp_path), errors.SamplesUnreadable, "fewer samples")


def test_an_absent_file(tmp_path: Path) -> None:
    refused(tmp_path / "set.npy", errors.SamplesUnreadable, "No such file")


def test_another_type_is_refused(tmp_path: Path) -> None:
    refused(saved(tmp_path, VALUES.astype(np.int32)), errors.WrongType, "int32")
