"""Arrays as numpy saves them: .npz with one array an input, .npy for a model of one input.

Refuses pickles, and looks up what an archive unpacks to before it unpacks anything. What is stored
as it is stays where it is and is read by place; a deflated member is unpacked once.
"""

from __future__ import annotations

import lzma
import os
import struct
import tokenize
import zipfile
import zlib
from dataclasses import replace
from pathlib import Path
from typing import IO

import numpy as np

from converter.data import raw
from converter.data.raw import LABELS, Raw
from converter.data.rows import BLOCK_BYTES, Array, Layout, Rows, Store
from converter.data.spool import Spool, read_stored
from converter.errors import SamplesUnreadable

# What zipfile and numpy raise on damaged or hostile archives is not one family.
_DAMAGE = (
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    struct.error,
    tokenize.TokenError,
    EOFError,
    KeyError,
    MemoryError,
    NotImplementedError,
    OverflowError,
    RuntimeError,
    TypeError,
    ValueError,
)
_LOCAL_HEADER = struct.Struct("<4s22xHH")
"""Of a ZIP member: signature, ..., length of its name, length of its extra field."""


class _Pickled(ValueError):
    """The array holds Python objects."""


def read_npz(path: Path, names: frozenset[str], spool: Path | None = None) -> Raw:
    """The arrays of an archive; `labels` is apart, unless the model has an input of that name.

    `spool`: the folder for what has to be unpacked. Raises `SamplesUnreadable`, `SpoolFailed`, or
    `OSError`.
    """
    arrays: dict[str, Array | Rows] = {}
    try:
        store = Store(os.open(path, os.O_RDONLY | os.O_CLOEXEC), str(path))
        with zipfile.ZipFile(path) as archive:
            _refuse_oversize(path, archive.infolist())
            for info in archive.infolist():
                name = info.filename.removesuffix(".npy")
                arrays[name] = _member(archive, info, store, spool)
    except _DAMAGE as error:
        what = "holds Python objects" if isinstance(error, _Pickled) else "not a readable .npz"
        raise SamplesUnreadable(
            f"{path}: {what}; write plain arrays with numpy.savez({path.name!r}, INPUT=array)"
        ) from error
    labels = arrays.pop(LABELS, None) if LABELS not in names else None
    return Raw(arrays, labels)


def read_npy(path: Path, name: str) -> Raw:
    """The one array of a file, for the input `name`; raises `SamplesUnreadable`, or `OSError`."""
    size = path.stat().st_size
    if size > raw.MAX_DATA_BYTES:
        raise SamplesUnreadable(
            f"{path}: {size} bytes; at most {raw.MAX_DATA_BYTES}, give fewer samples"
        )
    try:
        with path.open("rb") as file:
            layout = _layout(file, size)
        store = Store(os.open(path, os.O_RDONLY | os.O_CLOEXEC), str(path))
    except _DAMAGE as error:
        what = "holds Python objects" if isinstance(error, _Pickled) else "not a readable .npy"
        raise SamplesUnreadable(
            f"{path}: {what}; write a plain array with numpy.save({path.name!r}, array)"
        ) from error
    return Raw({name: read_stored(store, layout)})


def _member(
    archive: zipfile.ZipFile, info: zipfile.ZipInfo, store: Store, folder: Path | None
) -> Array | Rows:
    """One array. Either way its checksum is compared, which zipfile does at its end."""
    with archive.open(info) as stream:
        layout = _layout(stream, info.file_size)
    with archive.open(info) as stream:
        if info.compress_type == zipfile.ZIP_STORED:
            while stream.read(BLOCK_BYTES):
                pass
            start = _start(store, info)
            return read_stored(store, replace(layout, offset=start + layout.offset))
        with Spool(store.name, folder) as spool:
            while block := stream.read(BLOCK_BYTES):
                spool.add(block)
            return spool.array(layout)


def _layout(stream: IO[bytes], size: int) -> Layout:
    """What the header of an .npy file of `size` bytes says; raises one of `_DAMAGE`."""
    version = np.lib.format.read_magic(stream)
    known = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }
    shape, by_column, dtype = known[version](stream)
    if dtype.hasobject:
        raise _Pickled("the array holds Python objects")
    layout = Layout(stream.tell(), shape, dtype, by_column and len(shape) > 1)
    # A header that promises more than there is, before anything is allocated for it.
    if not shape or any(type(n) is not int or n < 0 for n in shape):
        raise ValueError(f"no array of samples has the shape {shape}")
    if layout.offset + layout.nbytes > size:
        raise ValueError(f"{layout.nbytes} bytes promised; there are {size - layout.offset}")
    return layout


def _start(store: Store, info: zipfile.ZipInfo) -> int:
    """Where a stored member's bytes begin; its own header is longer than the directory says."""
    head = np.empty(_LOCAL_HEADER.size, np.uint8)
    store.read_into(head, info.header_offset)
    _, name, extra = _LOCAL_HEADER.unpack(head.tobytes())
    return info.header_offset + _LOCAL_HEADER.size + int(name) + int(extra)


def _refuse_oversize(path: Path, members: list[zipfile.ZipInfo]) -> None:
    """By the archive's own directory, so that nothing is unpacked before it is bounded."""
    total = sum(member.file_size for member in members)
    if len(members) > raw.MAX_ARRAYS or total > raw.MAX_DATA_BYTES:
        raise SamplesUnreadable(
            f"{path}: {len(members)} arrays of {total} bytes; at most {raw.MAX_ARRAYS} arrays of"
            f" {raw.MAX_DATA_BYTES} bytes, give fewer samples"
        )
