"""What has to be unpacked: in memory when small, else in a file that nothing can leave behind."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from converter import errors
from converter.data import raw, rows
from converter.data.rows import Array, Layout, Rows
from converter.data.spool import Spool, in_row_order

VALUES = np.random.default_rng(6).random((64, 5, 7), dtype=np.float32)
LAYOUT = Layout(0, VALUES.shape, VALUES.dtype)


def spooled(folder: Path | None, values: Array = VALUES) -> Array | Rows:
    with Spool("calib.npz", folder) as spool:
        for start in range(0, len(values), 10):
            spool.add_rows(values[start : start + 10])
        return spool.array(Layout(0, values.shape, values.dtype))


def test_few_samples_stay_in_memory(tmp_path: Path) -> None:
    found = spooled(tmp_path / "never made")
    assert isinstance(found, np.ndarray)
    np.testing.assert_array_equal(found, VALUES)


def test_many_samples_are_read_by_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows, "IN_MEMORY_BYTES", 1000)
    found = spooled(tmp_path)
    assert isinstance(found, Rows)
    np.testing.assert_array_equal(found[:], VALUES)
    assert list(tmp_path.iterdir()) == []  # it has no name even while it is in use


def test_nothing_at_all_is_an_empty_array() -> None:
    with Spool("calib.csv", None) as spool:
        assert spool.array(Layout(0, (0, 3), np.dtype(np.float32))).shape == (0, 3)


def test_more_than_the_bound_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(raw, "MAX_DATA_BYTES", VALUES.nbytes - 1)
    with pytest.raises(errors.SamplesUnreadable, match=r"calib\.npz: more than .* fewer samples"):
        spooled(tmp_path)


def test_a_folder_that_takes_no_file_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rows, "IN_MEMORY_BYTES", 0)
    with pytest.raises(errors.SpoolFailed, match=r"absent \(No such file.*free some space"):
        spooled(tmp_path / "absent")


_CHILD = """
import os, resource, signal, sys
from pathlib import Path
from converter.data.spool import Spool
from converter.errors import SpoolFailed
folder = Path(sys.argv[1])
with Spool("calib.npz", folder) as spool:
    spool.add(bytes(6 << 20))
    assert "(deleted)" in os.readlink(f"/proc/self/fd/{spool._file.fileno()}")
    if sys.argv[2] == "killed":
        os.kill(os.getpid(), getattr(signal, sys.argv[3]))
    resource.setrlimit(resource.RLIMIT_FSIZE, (8 << 20, 8 << 20))
    try:
        spool.add(bytes(6 << 20))
    except SpoolFailed as error:
        print(error)
"""


@pytest.mark.parametrize("name", ["SIGKILL", "SIGTERM", "SIGINT"])
def test_a_signal_leaves_nothing_behind(tmp_path: Path, name: str) -> None:
    run = _child(tmp_path, "killed", name)
    assert run.returncode in (-getattr(signal, name), 130)
    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_is_full_is_a_named_error(tmp_path: Path) -> None:
    run = _child(tmp_path, "full")
    assert "calib.npz: what must be unpacked or kept finds no room" in run.stdout
    assert "File too large" in run.stdout
    assert run.returncode == 0
    assert list(tmp_path.iterdir()) == []


def test_fortrans_order_is_put_in_rows_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rows, "IN_MEMORY_BYTES", 0)
    monkeypatch.setattr("converter.data.spool._TURNED_BYTES", 1000)
    wide = np.asfortranarray(VALUES)
    with Spool("calib.npz", tmp_path) as spool:
        spool.add(wide.tobytes("F"))
        turned = spool.array(Layout(0, VALUES.shape, VALUES.dtype, by_column=True))
    found = in_row_order(turned, "calib.npz", tmp_path)
    assert isinstance(found, Rows)
    assert not found.layout.by_column
    np.testing.assert_array_equal(found[:], VALUES)


def _child(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", _CHILD, str(folder), *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
