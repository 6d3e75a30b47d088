"""Arrays in files and archives, read at once or by place; what is refused of them.

More of what archives may hold is tested with the samples.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from contract.manifest import TensorSpec
from converter import errors
from converter.data import raw, rows
from converter.data.archive import read_npz
from converter.data.raw import Reading
from converter.data.rows import Rows
from converter.samples import read_samples

ONE = [TensorSpec(name="x", dtype="float32", shape=[-1, 3])]
TWO = [*ONE, TensorSpec(name="y", dtype="float32", shape=[-1, 3])]
VALUES = np.arange(12, dtype=np.float32).reshape(4, 3)


@pytest.fixture(params=["memory", "disk"], autouse=True)
def place(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Where the samples are kept: every test here holds for both."""
    if request.param == "disk":
        monkeypatch.setattr(rows, "IN_MEMORY_BYTES", 0)
    return str(request.param)


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


FORMS: dict[str, np.ndarray] = {
    "as they are": VALUES,
    "columns first": np.asfortranarray(VALUES),
    "wider": VALUES.astype(np.float64),
    "columns first and wider": np.asfortranarray(VALUES.astype(np.float64)),
    "of another byte order": VALUES.astype(">f4"),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("kind", ["npy", "stored", "deflated"])
def test_however_they_are_kept_they_are_the_same_samples(
    tmp_path: Path, place: str, form: str, kind: str
) -> None:
    path = tmp_path / ("set.npy" if kind == "npy" else "set.npz")
    if kind == "npy":
        np.save(path, FORMS[form])
    else:
        (np.savez if kind == "stored" else np.savez_compressed)(path, x=FORMS[form])
    found = read_samples(path, ONE, Reading(spool=tmp_path)).arrays["x"]
    assert isinstance(found, Rows) == (place == "disk")
    assert found.dtype == np.dtype("<f4")
    np.testing.assert_array_equal(found[:], VALUES)
    np.testing.assert_array_equal(found[np.array([3, 0])], VALUES[[3, 0]])


def test_what_is_stored_as_it_is_needs_no_second_copy(tmp_path: Path) -> None:
    np.savez(tmp_path / "set.npz", x=VALUES, y=VALUES)
    found = read_npz(tmp_path / "set.npz", frozenset("xy"), spool=tmp_path / "absent")
    np.testing.assert_array_equal(found.arrays["y"][1:], VALUES[1:])


def test_a_stored_member_is_held_to_its_checksum(tmp_path: Path) -> None:
    path = tmp_path / "set.npy.npz"
    np.savez(path, x=VALUES)
    content = path.read_bytes()
    place = content.index(VALUES[2].tobytes())
    path.write_bytes(content[:place] + b"\x40" + content[place + 1 :])
    refused(path, errors.SamplesUnreadable, "readable .npz")


def test_a_scalar_is_no_set_of_samples(tmp_path: Path) -> None:
    refused(saved(tmp_path, np.array(1.0, np.float32)), errors.SamplesUnreadable, "plain array")


def test_more_samples_than_the_bound(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows, "MAX_SAMPLES", 3)
    refused(saved(tmp_path), errors.SamplesUnreadable, "4 samples; at most 3")
