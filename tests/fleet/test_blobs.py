"""The blob store: whole files under their digests, written once."""

from __future__ import annotations

from pathlib import Path

import pytest

from contract.errors import InvalidTopic
from fleet.blobs import BlobStore
from fleet.errors import BlobMissing
from fleet.files import write_whole

NAME = "ab" * 32


@pytest.fixture
def store(tmp_path: Path) -> BlobStore:
    return BlobStore(tmp_path / "blobs")


def test_a_blob_comes_back(store: BlobStore, tmp_path: Path) -> None:
    assert store.put(NAME, b"payload")

    assert store.get(NAME) == b"payload"
    assert NAME in store
    assert (tmp_path / "blobs" / "ab" / NAME).stat().st_mode & 0o777 == 0o600


def test_a_blob_that_is_there_is_not_written_again(store: BlobStore) -> None:
    store.put(NAME, b"payload")

    assert not store.put(NAME, b"other")
    assert store.get(NAME) == b"payload"


def test_a_missing_blob_is_named(store: BlobStore) -> None:
    assert NAME not in store
    with pytest.raises(BlobMissing, match=NAME[:16]):
        store.get(NAME)


def test_a_discarded_blob_is_gone_and_may_be_discarded_again(store: BlobStore) -> None:
    store.put(NAME, b"payload")
    store.discard(NAME)
    store.discard(NAME)

    assert NAME not in store


@pytest.mark.parametrize("name", ["../../etc/passwd", "", "AB" * 32, "ab"])
def test_only_digests_are_names(store: BlobStore, name: str) -> None:
    with pytest.raises(InvalidTopic):
        store.put(name, b"x")


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "file"
    write_whole(path, b"old")

    def full(_handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write_whole(path, b"new")

    assert path.read_bytes() == b"old"
    assert [found.name for found in tmp_path.iterdir()] == ["file"]
