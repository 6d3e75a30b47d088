"""Arrays as numpy saves them: .npz with one array an input, .npy for a model of one input.

Refuses pickles, and looks up what an archive unpacks to before it unpacks anything.
"""

from __future__ import annotations

import lzma
import struct
import tokenize
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from converter.data import raw
from converter.data.raw import LABELS, Raw
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
    OverflowError,
    RuntimeError,
    TypeError,
    ValueError,
)


def read_npz(path: Path, names: frozenset[str]) -> Raw:
    """The arrays of an archive; `labels` is apart, unless the model has an input of that name.

    Raises `SamplesUnreadable`, or `OSError`.
    """
    try:
        _refuse_oversize(path)
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: _array(file[name]) for name in file.files}
    except _DAMAGE as error:
        what = "holds Python objects" if "allow_pickle" in str(error) else "not a readable .npz"
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
            np.lib.format.read_magic(file)
        # Mapped first: a header that promises more than the file holds is found out before
        # anything is allocated for it.
        array = np.array(np.load(path, mmap_mode="r", allow_pickle=False))
    except _DAMAGE as error:
        objects = "object" in str(error).lower()
        what = "holds Python objects" if objects else "not a readable .npy"
        raise SamplesUnreadable(
            f"{path}: {what}; write a plain array with numpy.save({path.name!r}, array)"
        ) from error
    return Raw({name: array})


def _array(member: object) -> NDArray[Any]:
    """numpy hands out the bytes of a member that is no array."""
    if not isinstance(member, np.ndarray):
        raise ValueError("a member of the archive is not an array")
    return member


def _refuse_oversize(path: Path) -> None:
    """By the archive's own directory, so that nothing is unpacked before it is bounded."""
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
    total = sum(member.file_size for member in members)
    if len(members) > raw.MAX_ARRAYS or total > raw.MAX_DATA_BYTES:
        raise SamplesUnreadable(
            f"{path}: {len(members)} arrays of {total} bytes; at most {raw.MAX_ARRAYS} arrays of"
            f" {raw.MAX_DATA_BYTES} bytes, give fewer samples"
        )
