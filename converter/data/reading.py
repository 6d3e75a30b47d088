"""Which reader a path gets: a folder, a table, one array, or an archive of arrays."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from contract.manifest import TensorSpec
from converter.data.archive import read_npy, read_npz
from converter.data.folder import read_folder
from converter.data.raw import Raw, Reading
from converter.data.table import read_csv
from converter.errors import SamplesUnreadable, WrongArrays


def read_raw(path: Path, inputs: Sequence[TensorSpec], reading: Reading) -> Raw:
    """Read `path` as what it is; raises the `ConvertError` that names file or sample."""
    try:
        if path.is_dir():
            return read_folder(path, _only(path, inputs), reading)
        suffix = path.suffix.lower()
        if suffix == ".csv":
            return read_csv(path, _only(path, inputs), reading)
        if suffix == ".npy":
            return read_npy(path, _only(path, inputs))
        return read_npz(path, frozenset(spec.name for spec in inputs), reading.spool)
    except OSError as error:
        reason = error.strerror or "cannot be read"
        raise SamplesUnreadable(f"{path}: {reason}; check the path of the samples") from error


def _only(path: Path, inputs: Sequence[TensorSpec]) -> str:
    if len(inputs) != 1:
        names = ", ".join(repr(spec.name) for spec in inputs)
        raise WrongArrays(
            f"{path}: it holds one array, the model's inputs are {names}; give an .npz with one"
            " array for each"
        )
    return inputs[0].name
