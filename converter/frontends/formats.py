"""Which kind of model a path holds, by its content; the file's name breaks ties only.

Bounds what is read: the file, the folder, and what an archive would unpack to. Opens archives for
their table of contents and nothing else, so that no byte of a pickle is interpreted here.
"""

from __future__ import annotations

import zipfile
from pathlib import Path

from converter.errors import ModelUnreadable, SourceDamaged, UnknownFormat
from converter.frontends.sources import Format
from converter.mistaken import POINTER, is_pointer

MAX_BYTES = 1 << 30
MAX_UNPACKED = 4 << 30
MAX_FILES = 10_000
_HDF5, _ZIP, _TFLITE = b"\x89HDF\r\n\x1a\n", b"PK\x03\x04", b"TFL3"
_HEAD = 32
_PICKLES = frozenset({".joblib", ".pkl", ".pickle"})
_NAMED: dict[str, str] = {
    ".tflite": "TensorFlow Lite model",
    ".keras": "Keras model",
    ".h5": "Keras model",
    ".hdf5": "Keras model",
    ".pt": "TorchScript model",
    ".pt2": "PyTorch exported program",
}
"""Names that promise a content; when it is another one, the file is damaged."""


def detect(path: Path) -> Format:
    """The kind of `path`; what is no other kind is `onnx`, whose own reader judges it.

    Raises `ModelUnreadable`, `SourceDamaged`, `UnknownFormat`.
    """
    try:
        if path.is_dir():
            return _folder(path)
        head = _head(path)
    except OSError as error:
        reason = error.strerror or "cannot be read"
        raise ModelUnreadable(f"{path}: {reason}; check the path of the model") from error
    if head[4:8] == _TFLITE:
        return "tflite"
    if head.startswith(_HDF5):
        return "h5"
    if is_pointer(head):
        raise SourceDamaged(f"{path}: {POINTER}")
    suffix = path.suffix.lower()
    if suffix in _PICKLES:
        return "scikit-learn"
    if head.startswith(_ZIP):
        return _archive(path)
    if suffix in _NAMED:
        raise SourceDamaged(f"{path}: not a {_NAMED[suffix]}, or a damaged one; save it again")
    return "onnx"


def _head(path: Path) -> bytes:
    size = path.stat().st_size
    if not path.is_file():
        raise ModelUnreadable(f"{path}: not a file; give the model itself")
    if not 0 < size <= MAX_BYTES:
        raise ModelUnreadable(
            f"{path}: {size} bytes; a model has between 1 byte and {MAX_BYTES} bytes"
        )
    with path.open("rb") as file:
        return file.read(_HEAD)


def _folder(path: Path) -> Format:
    if not (path / "saved_model.pb").is_file():
        raise UnknownFormat(
            f"{path}: a folder without saved_model.pb; give a SavedModel folder or a model file"
        )
    total = 0
    for count, inner in enumerate(path.rglob("*")):
        total += inner.stat().st_size if inner.is_file() else 0
        if total > MAX_BYTES or count >= MAX_FILES:
            raise ModelUnreadable(
                f"{path}: more than {MAX_BYTES} bytes or {MAX_FILES} files; give the folder of the"
                " SavedModel alone"
            )
    return "savedmodel"


def _archive(path: Path) -> Format:
    names = _members(path)
    # torch puts all of its members into one folder, named like the file was when it was saved.
    inner = {name.partition("/")[2] for name in names}
    if {"config.json", "model.weights.h5"} <= names:
        return "keras"
    if "constants.pkl" in inner and any(name.startswith("code/") for name in inner):
        return "torchscript"
    if "archive_format" in inner or "serialized_exported_program.json" in names:
        return "pt2"
    if "data.pkl" in inner:
        raise UnknownFormat(
            f"{path}: a PyTorch checkpoint, weights without the network; save the model with"
            " torch.export.save(torch.export.export(model, example), 'model.pt2')"
        )
    raise UnknownFormat(f"{path}: an archive that is no Keras or PyTorch model; export it again")


def _members(path: Path) -> set[str]:
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
    except (zipfile.BadZipFile, ValueError, NotImplementedError) as error:
        raise SourceDamaged(f"{path}: the archive is damaged ({error}); save it again") from error
    # Of a truncated archive that holds another one, zipfile finds the inner one, further in.
    if min((member.header_offset for member in members), default=1) != 0:
        raise SourceDamaged(f"{path}: the archive is truncated; save it again")
    total = sum(member.file_size for member in members)
    if len(members) > MAX_FILES or total > MAX_UNPACKED:
        raise ModelUnreadable(
            f"{path}: unpacks to {len(members)} files of {total} bytes; at most {MAX_FILES} of"
            f" {MAX_UNPACKED} bytes together"
        )
    return {member.filename for member in members}
