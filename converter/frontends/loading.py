"""Any trained model as the pipeline's `SourceModel`, with a record of the file that it came from.

Shapes that a model does not know (TorchScript) are read off the calibration file, from the headers
of its arrays.
"""

from __future__ import annotations

import hashlib
import zipfile
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from contract.manifest import Source
from converter.data.raw import LABELS, MAX_ARRAYS
from converter.errors import ModelUnreadable
from converter.frontends.formats import detect
from converter.frontends.opening import open_source
from converter.frontends.sources import InputShape, SourceOptions, Sources
from converter.source import ELEMENT_TYPES, SourceModel, check_source, read_source

_BLOCK = 1 << 20


@dataclass(frozen=True)
class Opened:
    """A trained model, checked. `onnx` is None for a file that is TFLite and nothing else."""

    origin: Source
    sources: Sources
    onnx: SourceModel | None


def open_model(path: Path, calibration: Path, options: SourceOptions) -> Opened:
    """Open `path`, whatever it is; raises a `ConvertError`."""
    kind = detect(path)
    if kind == "onnx":
        source = read_source(path)
        return Opened(_record(path, kind), Sources(kind, onnx=source.data), source)
    if kind == "torchscript" and not options.shapes:
        options = replace(options, shapes=shapes_of(calibration))
    sources, origin = open_source(path, options), _record(path, kind)
    if sources.onnx is None:
        return Opened(origin, sources, None)
    checked = check_source(path, sources.onnx, trees=sources.trees is not None)
    return Opened(origin, sources, replace(checked, origin=origin))


def shapes_of(path: Path) -> dict[str, InputShape]:
    """Of an .npz: each array's type and the shape of one sample. Nothing for any other file."""
    found: dict[str, InputShape] = {}
    try:
        with zipfile.ZipFile(path) as archive:
            for name in archive.namelist()[:MAX_ARRAYS]:
                with archive.open(name) as member:
                    shape, dtype = _header(member)
                known = [kind for kind in ELEMENT_TYPES.values() if kind == dtype]
                if known and shape:
                    found[name.removesuffix(".npy")] = InputShape(known[0], shape[1:])
    except (OSError, ValueError, KeyError, zipfile.BadZipFile):
        return {}  # the reader of the samples says what is wrong with it
    found.pop(LABELS, None)
    return found


def _header(member: object) -> tuple[tuple[int, ...], str]:
    version = np.lib.format.read_magic(member)  # type: ignore[arg-type]  # any binary stream
    read = (
        np.lib.format.read_array_header_1_0
        if version == (1, 0)
        else np.lib.format.read_array_header_2_0
    )
    shape, _, dtype = read(member)  # type: ignore[arg-type]  # any binary stream
    return shape, dtype.name


def _record(path: Path, kind: str) -> Source:
    """Name, length and digest of a file, or of all files of a folder in their order by name."""
    files = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
    total, digest = 0, hashlib.sha256()
    try:
        for file in files:
            if path.is_dir():
                digest.update(file.relative_to(path).as_posix().encode(errors="replace") + b"\0")
                digest.update(file.stat().st_size.to_bytes(8, "big"))
            with file.open("rb") as stream:
                while block := stream.read(_BLOCK):
                    total += len(block)
                    digest.update(block)
    except OSError as error:
        raise ModelUnreadable(f"{path}: {error.strerror or 'cannot be read'}") from error
    # The name goes into the manifest, which is UTF-8; a file's name may be any bytes.
    name = (path.name or "model").encode(errors="replace").decode()[:120]
    return Source(name=name, format=kind, length=total, digest=digest.hexdigest())
