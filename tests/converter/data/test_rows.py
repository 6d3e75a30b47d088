"""Rows on the disk: read like numpy's own array, only as far as they are asked for."""

from __future__ import annotations

import gc
import os
from pathlib import Path

import numpy as np
import pytest

from converter.data.rows import Array, Layout, Rows, Store, blocks, rows_of
from converter.errors import SamplesUnreadable

VALUES = np.random.default_rng(5).random((20, 2, 3, 4), dtype=np.float32)
INDICES = [
    slice(0, 5),
    slice(18, 30),
    slice(None, None, 3),
    slice(4, 4),
    [7, 8, 9, 2, 3, 19],
    np.array([19, 0, 0, 5]),
    np.array([], np.int64),
]


def stored(path: Path, values: Array = VALUES, ahead: int = 13) -> Rows:
    """The values behind `ahead` other bytes, in the order that they have in memory."""
    by_column = not values.flags.c_contiguous
    path.write_bytes(bytes(ahead) + values.tobytes("A"))
    store = Store(os.open(path, os.O_RDONLY), str(path))
    return rows_of(store, Layout(ahead, values.shape, values.dtype, by_column))


@pytest.mark.parametrize("index", INDICES, ids=str)
@pytest.mark.parametrize("order", ["C", "F"])
def test_indexing_gives_what_numpy_gives(
    tmp_path: Path, index: slice | list[int] | Array, order: str
) -> None:
    values = np.asfortranarray(VALUES) if order == "F" else VALUES
    found = stored(tmp_path / "x", values)[index]
    np.testing.assert_array_equal(found, VALUES[index])
    assert found.flags.c_contiguous


def test_one_row_is_the_sample_itself(tmp_path: Path) -> None:
    np.testing.assert_array_equal(stored(tmp_path / "x")[11], VALUES[11])


def test_a_selection_of_a_selection(tmp_path: Path) -> None:
    found = stored(tmp_path / "x").take([9, 8, 7, 6, 1]).take(slice(1, None, 2))
    assert (len(found), found.shape, found.ndim) == (2, (2, 2, 3, 4), 4)
    assert found.nbytes == VALUES[:2].nbytes
    np.testing.assert_array_equal(found[:], VALUES[[8, 6]])


def test_a_change_is_made_as_rows_are_read(tmp_path: Path) -> None:
    seen: list[int] = []

    def rounded(values: Array) -> Array:
        seen.append(len(values))
        return np.asarray(values * 9, np.uint8)

    changed = stored(tmp_path / "x").take(slice(0, 10)).changed(rounded, np.dtype(np.uint8))
    assert changed.dtype == np.uint8
    assert seen == []
    np.testing.assert_array_equal(changed[2:4], (VALUES[2:4] * 9).astype(np.uint8))
    assert seen == [2]


@pytest.mark.parametrize("size", [1, VALUES[0].nbytes * 7, 1 << 20])
def test_blocks_hold_every_row_once_and_in_order(tmp_path: Path, size: int) -> None:
    for array in (VALUES, stored(tmp_path / "x")):
        found = list(blocks(array, size))
        assert [start for start, _ in found] == np.cumsum([0, *map(len, (b for _, b in found))])[
            :-1
        ].tolist()
        assert max(block.nbytes for _, block in found) <= max(size, VALUES[0].nbytes)
        np.testing.assert_array_equal(np.concatenate([block for _, block in found]), VALUES)


def test_a_file_that_became_shorter_is_named(tmp_path: Path) -> None:
    found = stored(tmp_path / "set.npy")
    with (tmp_path / "set.npy").open("rb+") as file:
        file.truncate(VALUES.nbytes // 2)
    np.testing.assert_array_equal(found[:3], VALUES[:3])
    with pytest.raises(SamplesUnreadable, match=r"set\.npy: became shorter"):
        found[15:]


def test_the_file_is_closed_with_the_last_of_its_rows(tmp_path: Path) -> None:
    path = tmp_path / "x"
    found = stored(path)
    part = found.take(slice(0, 2))
    del found
    gc.collect()
    assert _open_here(path)
    del part
    gc.collect()
    assert not _open_here(path)


def _open_here(path: Path) -> bool:
    links = Path("/proc/self/fd").iterdir()
    return any(os.path.realpath(link) == str(path) for link in links)
