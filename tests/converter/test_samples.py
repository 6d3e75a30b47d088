"""Calibration and evaluation files: each bad one is refused by array and sample."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from contract.manifest import TensorSpec
from converter import errors, samples
from converter.data import raw, rows
from converter.samples import Samples, hold_out, read_samples
from tests.converter import models

IMAGE = [TensorSpec(name="image", dtype="float32", shape=[-1, 1, 8, 8])]
PAIR = [
    TensorSpec(name="left", dtype="float32", shape=[-1, 12]),
    TensorSpec(name="right", dtype="int64", shape=[-1, 3]),
]


@pytest.fixture(params=["memory", "disk"], autouse=True)
def place(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Where samples are kept that were read: every test here holds for both."""
    if request.param == "disk":
        monkeypatch.setattr(rows, "IN_MEMORY_BYTES", 0)
        monkeypatch.setattr(rows, "BLOCK_BYTES", 700)
    return str(request.param)


def refused(path: Path, kind: type[errors.ConvertError], *words: str) -> None:
    with pytest.raises(kind) as caught:
        read_samples(path, IMAGE)
    message = str(caught.value)
    assert "\n" not in message
    for word in (path.name, *words):
        assert word in message


def npz(tmp_path: Path, **arrays: NDArray[Any]) -> Path:
    return models.save_samples(tmp_path / "calib.npz", **arrays)


def test_good_samples_with_labels(tmp_path: Path) -> None:
    path = npz(tmp_path, image=models.images(5), labels=np.arange(5, dtype=np.uint8))
    found = read_samples(path, IMAGE)
    assert len(found) == 5
    assert found.origin == "calib.npz"
    assert found.labels is not None
    assert found.labels.dtype == np.int64


def test_several_inputs_of_several_types(tmp_path: Path) -> None:
    path = npz(
        tmp_path,
        left=np.random.default_rng(1).random((4, 12), dtype=np.float32),
        right=np.ones((4, 3), dtype=np.int64),
    )
    found = read_samples(path, PAIR)
    assert {name: array.shape for name, array in found.arrays.items()} == {
        "left": (4, 12),
        "right": (4, 3),
    }


def test_a_wider_float_is_narrowed(tmp_path: Path) -> None:
    found = read_samples(npz(tmp_path, image=models.images(2).astype(np.float64)), IMAGE)
    assert found.arrays["image"].dtype == np.float32


def test_missing_file(tmp_path: Path) -> None:
    refused(tmp_path / "none.npz", errors.SamplesUnreadable, "No such file")


def test_a_file_that_is_no_archive(tmp_path: Path) -> None:
    path = tmp_path / "text.npz"
    path.write_text("0.1 0.2 0.3")
    refused(path, errors.SamplesUnreadable, "numpy.savez")


def test_a_lone_npy(tmp_path: Path) -> None:
    path = tmp_path / "single.npz"
    with path.open("wb") as file:
        np.save(file, models.images(2))
    refused(path, errors.SamplesUnreadable)


def test_a_truncated_archive(tmp_path: Path) -> None:
    path = npz(tmp_path, image=models.images(20))
    path.write_bytes(path.read_bytes()[:-200])
    refused(path, errors.SamplesUnreadable)


def test_a_damaged_member(tmp_path: Path) -> None:
    path = npz(tmp_path, image=models.images(20))
    content = bytearray(path.read_bytes())
    content[1000] ^= 0xFF
    path.write_bytes(bytes(content))
    refused(path, errors.SamplesUnreadable)


def test_pickles_are_never_loaded(tmp_path: Path) -> None:
    path = npz(tmp_path, image=np.array([{"a": 1}], dtype=object))
    refused(path, errors.SamplesUnreadable, "Python objects")


def test_an_archive_that_unpacks_beyond_the_bound(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "bomb.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("image.npy", b"\0" * 1_000_000)
    assert path.stat().st_size < 10_000
    monkeypatch.setattr(raw, "MAX_DATA_BYTES", 500_000)
    refused(path, errors.SamplesUnreadable, "1000000 bytes", "fewer samples")


def test_an_archive_of_too_many_arrays(tmp_path: Path) -> None:
    many = {f"a{i}": np.zeros(1) for i in range(raw.MAX_ARRAYS + 1)}
    refused(npz(tmp_path, **many), errors.SamplesUnreadable, "65 arrays")


def test_an_array_of_another_name(tmp_path: Path) -> None:
    refused(
        npz(tmp_path, x=models.images(3)),
        errors.WrongArrays,
        "'x'",
        "'image' (float32 [N, 1, 8, 8])",
    )


def test_an_array_too_many(tmp_path: Path) -> None:
    path = npz(tmp_path, image=models.images(3), mask=models.images(3))
    refused(path, errors.WrongArrays, "'mask'")


def test_labels_alone_are_no_samples(tmp_path: Path) -> None:
    refused(npz(tmp_path, labels=np.arange(3)), errors.WrongArrays, "nothing")


@pytest.mark.parametrize("shape", [(4, 8, 8, 1), (4, 64), (4, 1, 8, 9), (8, 8), (4, 1, 8, 8, 1)])
def test_wrong_shape(tmp_path: Path, shape: tuple[int, ...]) -> None:
    path = npz(tmp_path, image=np.random.default_rng(0).random(shape, dtype=np.float32))
    refused(path, errors.WrongShape, "'image'", "[N, 1, 8, 8]")


@pytest.mark.parametrize(
    ("shape", "want", "remedy"),
    [
        ((9, 8, 8, 3), [-1, 3, 8, 8], "transpose the samples"),
        ((9, 3, 8, 8), [-1, 8, 8, 3], "transpose the samples"),
        ((9, 64), [-1, 1, 8, 8], "; reshape the samples"),
        ((9, 10, 1), [-1, 1, 10], "; reshape the samples"),
    ],
)
def test_another_layout_is_to_be_transposed_and_not_reshaped(
    shape: tuple[int, ...], want: list[int], remedy: str, tmp_path: Path
) -> None:
    path = npz(tmp_path, image=np.random.default_rng(0).random(shape, dtype=np.float32))
    with pytest.raises(errors.WrongShape, match=remedy):
        read_samples(path, [TensorSpec(name="image", dtype="float32", shape=want)])


def test_inputs_of_different_length(tmp_path: Path) -> None:
    path = npz(
        tmp_path,
        left=np.random.default_rng(1).random((4, 12), dtype=np.float32),
        right=np.ones((5, 3), dtype=np.int64),
    )
    with pytest.raises(errors.WrongShape, match="different numbers"):
        read_samples(path, PAIR)


def test_zero_samples(tmp_path: Path) -> None:
    refused(npz(tmp_path, image=models.images(0)), errors.NoSamples, "'image'")


@pytest.mark.parametrize("dtype", ["uint8", "int64", "bool", "complex64"])
def test_pixels_that_were_never_scaled(tmp_path: Path, dtype: str) -> None:
    path = npz(tmp_path, image=(models.images(3) * 255).astype(dtype))
    refused(path, errors.WrongType, dtype, "scaled")


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_sample_that_is_not_finite(tmp_path: Path, bad: float) -> None:
    images = models.images(6)
    images[4, 0, 3, 3] = bad
    refused(npz(tmp_path, image=images), errors.NonFiniteSamples, "sample 4", "1 of 6")


def test_a_double_beyond_float32(tmp_path: Path) -> None:
    images = models.images(6).astype(np.float64)
    images[2, 0, 0, 0] = 1e300
    refused(npz(tmp_path, image=images), errors.NonFiniteSamples, "sample 2")


def test_samples_of_one_value(tmp_path: Path) -> None:
    path = npz(tmp_path, image=np.zeros((5, 1, 8, 8), np.float32))
    refused(path, errors.ConstantSamples, "0.0")


@pytest.mark.parametrize(
    "labels", [np.eye(5), np.arange(5.0), np.array(["a"] * 5), np.zeros((5, 1), int)]
)
def test_labels_that_are_no_class_numbers(tmp_path: Path, labels: NDArray[Any]) -> None:
    refused(npz(tmp_path, image=models.images(5), labels=labels), errors.BadLabels, "class number")


def test_labels_of_another_length(tmp_path: Path) -> None:
    path = npz(tmp_path, image=models.images(5), labels=np.arange(4))
    refused(path, errors.BadLabels, "4 labels for 5 samples")


def test_an_input_named_labels_is_an_input(tmp_path: Path) -> None:
    spec = [TensorSpec(name="labels", dtype="int64", shape=[-1, 2])]
    found = read_samples(npz(tmp_path, labels=np.ones((3, 2), np.int64)), spec)
    assert found.labels is None
    assert list(found.arrays) == ["labels"]


# Batches and hold-out


def test_batches_hold_every_sample_once_and_in_order() -> None:
    images = models.images(samples.BATCH * 2 + 3)
    parts = [part["image"] for part in Samples("s", {"image": images}).batches()]
    assert [len(part) for part in parts] == [samples.BATCH, samples.BATCH, 3]
    np.testing.assert_array_equal(np.concatenate(parts), images)


def test_a_model_of_fixed_batch_gets_that_batch() -> None:
    parts = list(Samples("s", {"image": models.images(3)}).batches(1))
    assert [len(part["image"]) for part in parts] == [1, 1, 1]


def test_every_fourth_sample_is_held_out() -> None:
    whole = Samples("s", {"image": models.images(10)}, np.arange(10))
    calibration, evaluation = hold_out(whole)
    assert calibration.labels is not None
    assert evaluation.labels is not None
    assert calibration.labels.tolist() == [0, 1, 2, 4, 5, 6, 8, 9]
    assert evaluation.labels.tolist() == [3, 7]


def test_too_few_samples_to_hold_any_out() -> None:
    with pytest.raises(errors.NoSamples, match="3 samples"):
        hold_out(Samples("s", {"image": models.images(3)}))


def test_what_is_held_out_is_the_same_from_memory_and_from_disk(tmp_path: Path) -> None:
    images = models.images(70)
    found = read_samples(npz(tmp_path, image=images, labels=np.arange(70)), IMAGE)
    for ours, theirs in zip(
        hold_out(found), hold_out(Samples("s", {"image": images})), strict=True
    ):
        assert [part["image"].tobytes() for part in ours.batches()] == [
            part["image"].tobytes() for part in theirs.batches()
        ]


def test_extremes_are_of_each_sample_and_follow_it(tmp_path: Path) -> None:
    images = models.images(9)
    found = read_samples(npz(tmp_path, image=images), IMAGE).take([8, 1])
    assert found.extremes("image").high.tolist() == [images[8].max(), images[1].max()]
    assert found.extremes("image").low.tolist() == [images[8].min(), images[1].min()]


def test_changed_samples_have_other_values_and_other_extremes(tmp_path: Path) -> None:
    found = read_samples(npz(tmp_path, image=models.images(9)), IMAGE)
    made = found.changed({"image": (lambda values: (9 * values).astype(np.int8), "int8")})
    assert made.arrays["image"].dtype == np.int8
    wanted = (9 * models.images(9)).astype(np.int8)
    np.testing.assert_array_equal(made.arrays["image"][:], wanted)
    assert made.extremes("image").high.max() == wanted.max()


def _npy(shape: str) -> bytes:
    header = f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}}}".ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header.encode() + bytes(256)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("image", b"raw bytes"),
        ("image.npy", b"raw bytes"),
        ("image.npy", _npy("(1180591620717411303424, 1, 8, 8)")),
        ("image.npy", _npy("(True, 1, 8, 8)")),
        ("image.npy", _npy("(1099511627776, 1, 8, 8)")),
        ("image.npy", _npy("(((((((")),
    ],
)
def test_members_that_are_no_arrays(tmp_path: Path, name: str, content: bytes) -> None:
    path = tmp_path / "calib.npz"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(name, content)
    refused(path, errors.SamplesUnreadable)


def test_no_damage_raises_anything_but_a_named_error(tmp_path: Path) -> None:
    path = tmp_path / "calib.npz"
    np.savez_compressed(path, image=models.images(2))
    good = path.read_bytes()
    seen = set()
    for place in range(0, len(good), 7):
        path.write_bytes(good[:place] + bytes([good[place] ^ 0x5A]) + good[place + 1 :])
        try:
            read_samples(path, IMAGE)
        except errors.ConvertError as error:
            seen.add(type(error))
    assert errors.SamplesUnreadable in seen
