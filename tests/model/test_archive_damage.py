"""Bundles with flipped bytes give a named error, and large ones are checked in little memory."""

from __future__ import annotations

import tracemalloc
from contextlib import suppress
from pathlib import Path

import msgspec
import pytest

from contract.errors import ContractError
from model.archive import open_bundle, write_bundle
from model.chunks import file_ref
from model.errors import ModelError
from tests.model.builders import bundle, release


@pytest.fixture
def written(tmp_path: Path) -> Path:
    return bundle(tmp_path)


def test_no_damage_raises_anything_but_a_named_error(written: Path) -> None:
    good = written.read_bytes()
    for place in range(len(good) - 900, len(good)):
        written.write_bytes(good[:place] + bytes([good[place] ^ 0xA5]) + good[place + 1 :])
        with suppress(ModelError, ContractError), open_bundle(written) as found:
            found.check()


def test_a_large_file_is_checked_without_holding_it_in_memory(tmp_path: Path) -> None:
    manifest, files = release(tmp_path)
    notes = bytes(32 << 20)
    hub_files = [*manifest.hub_files, file_ref("notes.bin", notes, chunked=False)]
    path = tmp_path / "large.bundle"
    write_bundle(
        path,
        msgspec.structs.replace(manifest, hub_files=hub_files),
        {**files, "notes.bin": notes},
    )
    with open_bundle(path) as found:
        tracemalloc.start()
        found.check()
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert most < len(notes) // 2
