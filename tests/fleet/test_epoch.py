"""The epoch file: one name, void as soon as a new one is drawn."""

from __future__ import annotations

import re
from pathlib import Path

from fleet.epoch import EpochFile, sealed_by


def test_a_hub_that_never_filled_a_broker_has_no_epoch(tmp_path: Path) -> None:
    assert EpochFile(tmp_path / "run" / "epoch").read() is None


def test_what_was_written_is_read_by_the_next_hub(tmp_path: Path) -> None:
    EpochFile(tmp_path / "run" / "epoch").write("a" * 32)

    assert EpochFile(tmp_path / "run" / "epoch").read() == "a" * 32


def test_drawing_a_new_name_voids_the_old_one_before_anything_is_sent(tmp_path: Path) -> None:
    file = EpochFile(tmp_path / "run" / "epoch")
    file.write("a" * 32)

    fresh = file.fresh("key")

    assert fresh != "a" * 32
    assert file.read() is None


def test_an_empty_file_is_no_epoch(tmp_path: Path) -> None:
    (tmp_path / "epoch").write_text("\n")

    assert EpochFile(tmp_path / "epoch").read() is None


def test_a_name_says_which_key_sealed_what_the_memory_holds(tmp_path: Path) -> None:
    fresh = EpochFile(tmp_path / "epoch").fresh("key")

    assert re.fullmatch("[0-9a-f]{32}", fresh)
    assert sealed_by(fresh, "key")
    assert not sealed_by(fresh, "another")
    assert not sealed_by("a" * 32, "key")
