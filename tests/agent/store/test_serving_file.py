"""serving.json: what is written is read, one family at a time, and a broken file says so."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.errors import Malformed
from agent.store.serving_file import (
    MAX_SERVING_BYTES,
    ServingEntry,
    ServingFile,
    read_serving,
    serving_path,
    set_family,
    write_serving,
)


def entry(letter: str, previous: ServingEntry | None = None) -> ServingEntry:
    return ServingEntry(
        digest=letter * 64,
        directory=f"/store/{letter}",
        variant="onnx-int8",
        target=f"digits/{letter}",
        previous=previous,
    )


def test_what_is_written_is_read(tmp_path: Path) -> None:
    serving = ServingFile(families={"digits": entry("b", entry("a")), "kws": entry("c")})
    write_serving(tmp_path, serving)
    assert read_serving(tmp_path) == serving


def test_no_file_means_that_nothing_serves(tmp_path: Path) -> None:
    assert read_serving(tmp_path) == ServingFile()


def test_one_family_changes_and_the_others_stay(tmp_path: Path) -> None:
    write_serving(tmp_path, ServingFile(families={"digits": entry("a"), "kws": entry("c")}))
    set_family(tmp_path, "digits", entry("b", entry("a")))
    assert read_serving(tmp_path).families["kws"] == entry("c")
    set_family(tmp_path, "digits", None)
    assert list(read_serving(tmp_path).families) == ["kws"]
    set_family(tmp_path, "absent", None)
    assert list(read_serving(tmp_path).families) == ["kws"]


def test_an_entry_that_stands_already_is_not_written_again(tmp_path: Path) -> None:
    set_family(tmp_path, "digits", entry("a"))
    before = serving_path(tmp_path).stat().st_ino
    set_family(tmp_path, "digits", entry("a"))
    assert serving_path(tmp_path).stat().st_ino == before


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{",
        b"[]",
        b'{"schema": 2, "families": {}}',
        b'{"families": {"digits": {"digest": "short"}}}',
        b'{"families": {"../x": {}}}',
        b" " * (MAX_SERVING_BYTES + 1),
        b"[" * 100_000,
    ],
)
def test_a_broken_file_is_malformed_and_names_the_path(tmp_path: Path, data: bytes) -> None:
    serving_path(tmp_path).write_bytes(data)
    with pytest.raises(Malformed, match=r"serving\.json"):
        read_serving(tmp_path)


def test_a_broken_file_is_replaced_by_the_next_change(tmp_path: Path) -> None:
    serving_path(tmp_path).write_bytes(b"torn")
    set_family(tmp_path, "digits", entry("a"))
    assert read_serving(tmp_path).families == {"digits": entry("a")}
