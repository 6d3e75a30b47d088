"""The epoch file: one name, void as soon as a new one is drawn."""

from __future__ import annotations

from pathlib import Path

from fleet.epoch import EpochFile


def test_a_hub_that_never_filled_a_broker_has_no_epoch(tmp_path: Path) -> None:
    assert EpochFile(tmp_path / "run" / "epoch").read() is None


def test_what_was_written_is_read_by_the_next_hub(tmp_path: Path) -> None:
    EpochFile(tmp_path / "run" / "epoch").write("a" * 32)

    assert EpochFile(tmp_path / "run" / "epoch").read() == "a" * 32


def test_drawing_a_new_name_voids_the_old_one_before_anything_is_sent(tmp_path: Path) -> None:
    file = EpochFile(tmp_path / "run" / "epoch")
    file.write("a" * 32)

    fresh = file.fresh()

    assert fresh != "a" * 32
    assert file.read() is None


def test_an_empty_file_is_no_epoch(tmp_path: Path) -> None:
    (tmp_path / "epoch").write_text("\n")

    assert EpochFile(tmp_path / "epoch").read() is None
