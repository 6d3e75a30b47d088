"""Which kind of model a file is: told by its content, bounded, and damage is named."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

from converter import errors
from converter.frontends import formats
from converter.frontends.formats import detect


def archive(path: Path, *names: str) -> Path:
    with zipfile.ZipFile(path, "w") as made:
        for name in names:
            made.writestr(name, b"content " * 40)
    return path


@pytest.mark.parametrize(
    ("names", "kind"),
    [
        (("config.json", "metadata.json", "model.weights.h5"), "keras"),
        (("net/data.pkl", "net/constants.pkl", "net/code/__torch__.py"), "torchscript"),
        (("m/archive_format", "m/models/model.json", "m/data/sample_inputs/m.pt"), "pt2"),
        (("serialized_exported_program.json", "version"), "pt2"),
    ],
)
def test_an_archive_is_told_by_its_members(
    names: tuple[str, ...], kind: str, tmp_path: Path
) -> None:
    assert detect(archive(tmp_path / "model.bin", *names)) == kind


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (b"\x1c\0\0\0TFL3....", "tflite"),
        (b"\x89HDF\r\n\x1a\n....", "h5"),
        (b"\x08\x07\x12\x04", "onnx"),
    ],
)
def test_a_file_is_told_by_its_first_bytes(content: bytes, kind: str, tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(content)
    assert detect(path) == kind


@pytest.mark.parametrize("name", ["m.joblib", "m.pkl", "M.PICKLE"])
def test_a_pickle_is_told_by_its_name_and_not_opened(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(b"\x80\x04.")
    assert detect(tmp_path / name) == "scikit-learn"


def test_a_saved_model_is_a_folder(tmp_path: Path) -> None:
    (tmp_path / "saved_model.pb").write_bytes(b"x")
    assert detect(tmp_path) == "savedmodel"


def test_any_other_folder_is_none(tmp_path: Path) -> None:
    with pytest.raises(errors.UnknownFormat, match=r"without saved_model\.pb"):
        detect(tmp_path)


def test_a_checkpoint_of_weights_is_no_model(tmp_path: Path) -> None:
    path = archive(tmp_path / "weights.pt", "w/data.pkl", "w/data/0")
    with pytest.raises(errors.UnknownFormat, match=r"checkpoint.*torch\.export\.save"):
        detect(path)


def test_an_archive_of_something_else(tmp_path: Path) -> None:
    with pytest.raises(errors.UnknownFormat, match="no Keras or PyTorch model"):
        detect(archive(tmp_path / "photos.zip", "a.jpg"))


@pytest.mark.parametrize("name", ["m.tflite", "m.keras", "m.h5", "m.pt", "m.pt2"])
def test_a_name_that_promises_what_the_content_is_not(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(b"not a model at all")
    with pytest.raises(errors.SourceDamaged, match=f"{name}: not a"):
        detect(tmp_path / name)


def test_a_truncated_archive(tmp_path: Path) -> None:
    path = archive(tmp_path / "m.keras", "config.json", "model.weights.h5")
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(errors.SourceDamaged, match="archive is damaged"):
        detect(path)


def test_a_truncated_archive_is_not_taken_for_one_inside_of_it(tmp_path: Path) -> None:
    """The end of the outer one is cut off; the end of the inner one is found instead."""
    inner = archive(tmp_path / "inner", "x/data.pkl").read_bytes()
    path = tmp_path / "m.pt2"
    with zipfile.ZipFile(path, "w") as made:
        made.writestr("m/archive_format", b"pt2")
        made.writestr("m/data/sample_inputs/model.pt", inner)
    content = path.read_bytes()
    path.write_bytes(content[: content.rindex(inner) + len(inner)])
    with pytest.raises(errors.SourceDamaged, match="truncated"):
        detect(path)


def test_an_empty_file_and_an_absent_one(tmp_path: Path) -> None:
    (tmp_path / "m.onnx").touch()
    with pytest.raises(errors.ModelUnreadable, match="0 bytes"):
        detect(tmp_path / "m.onnx")
    with pytest.raises(errors.ModelUnreadable, match="No such file"):
        detect(tmp_path / "absent.keras")


def test_a_file_beyond_the_bound(tmp_path: Path) -> None:
    with (tmp_path / "huge.tflite").open("wb") as file:
        file.truncate(formats.MAX_BYTES + 1)
    with pytest.raises(errors.ModelUnreadable, match="between 1 byte"):
        detect(tmp_path / "huge.tflite")


def test_a_folder_beyond_the_bound(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(formats, "MAX_FILES", 3)
    for name in ("saved_model.pb", "a", "b", "c", "d"):
        (tmp_path / name).touch()
    with pytest.raises(errors.ModelUnreadable, match="more than"):
        detect(tmp_path)


def test_an_archive_that_unpacks_beyond_the_bound(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(formats, "MAX_UNPACKED", 100)
    with pytest.raises(errors.ModelUnreadable, match="unpacks to 2 files"):
        detect(archive(tmp_path / "bomb.keras", "config.json", "model.weights.h5"))


@pytest.mark.parametrize("name", ["m.onnx", "m.tflite", "m.keras", "m.pt", "m.joblib"])
def test_a_pointer_of_git_lfs_is_no_model_of_any_kind(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n")
    with pytest.raises(errors.SourceDamaged, match=rf"{name}: a Git LFS pointer.*git lfs pull"):
        detect(path)
