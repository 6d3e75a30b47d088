"""The notes by which a crash loop is known."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.serving.crashes import CrashNotes

GOOD, BAD = "1" * 64, "2" * 64


def life(path: Path, digest: str = BAD) -> int:
    """A boot that serves the digest and then dies; how many deaths it found."""
    notes = CrashNotes(path)
    deaths = notes.deaths_at_boot("tiny", digest)
    notes.serving("tiny", digest)
    return deaths


def test_each_death_while_serving_is_counted(tmp_path: Path) -> None:
    assert [life(tmp_path / "boots.json") for _ in range(4)] == [0, 1, 2, 3]


def test_a_stop_in_good_order_is_no_death(tmp_path: Path) -> None:
    path = tmp_path / "boots.json"
    life(path)
    CrashNotes(path).stopped_in_good_order()
    assert life(path) == 0


def test_a_boot_that_does_not_serve_the_model_adds_no_death(tmp_path: Path) -> None:
    path = tmp_path / "boots.json"
    life(path)
    life(path)
    found = [CrashNotes(path).deaths_at_boot("tiny", BAD) for _ in range(3)]
    assert found == [2, 2, 2]


def test_another_digest_starts_at_zero(tmp_path: Path) -> None:
    path = tmp_path / "boots.json"
    life(path)
    life(path)
    assert life(path, GOOD) == 0


def test_a_fresh_activation_forgets_earlier_deaths(tmp_path: Path) -> None:
    path = tmp_path / "boots.json"
    life(path)
    life(path)
    CrashNotes(path).serving("tiny", BAD, fresh=True)
    assert life(path) == 1


def test_a_family_past_its_probation_is_forgotten(tmp_path: Path) -> None:
    path = tmp_path / "boots.json"
    life(path)
    CrashNotes(path).forget("tiny")
    assert life(path) == 0


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b'{"tiny":{"digest":"x","serving":true}}'])
def test_a_broken_file_means_that_nothing_is_known(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "boots.json"
    path.write_bytes(data)
    assert life(path) == 0
    assert life(path) == 1


def test_a_folder_that_cannot_be_written_stops_nothing(tmp_path: Path) -> None:
    assert life(tmp_path / "absent" / "boots.json") == 0
