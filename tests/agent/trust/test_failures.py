"""The table from python-tuf's errors to the device's, and what a fetcher may raise."""

from __future__ import annotations

import errno

import pytest
from tuf.api import exceptions as tuf
from tuf.api.serialization import DeserializationError

from agent.errors import (
    DeviceError,
    DiskFull,
    Malformed,
    RollbackDetected,
    StaleMetadata,
    Tampered,
    TransportFailed,
    Untrusted,
)
from agent.trust.failures import as_device_error
from agent.trust.fetcher import BASE_URL, SourceFetcher
from contract.messages import TufFile, TufIndex
from tests.trust.ceremony import RepositorySource


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (tuf.ExpiredMetadataError("x"), StaleMetadata),
        (tuf.BadVersionNumberError("x"), RollbackDetected),
        (tuf.EqualVersionNumberError("x"), RollbackDetected),
        (tuf.UnsignedMetadataError("x"), Untrusted),
        (tuf.LengthOrHashMismatchError("x"), Tampered),
        (tuf.DownloadLengthMismatchError("x"), Tampered),
        (tuf.SlowRetrievalError("x"), TransportFailed),
        (tuf.DownloadHTTPError("x", 404), TransportFailed),
        (tuf.DownloadError("x"), TransportFailed),
        (DeserializationError("x"), Malformed),
        (tuf.RepositoryError("New snapshot is missing info for 'a.json'"), RollbackDetected),
        (tuf.RepositoryError("Expected 'timestamp', got 'root'"), Malformed),
        (ValueError("x"), Malformed),
        (OSError(errno.ENOSPC, "full"), DiskFull),
        (OSError(errno.EDQUOT, "quota"), DiskFull),
        (OSError(errno.EIO, "broken"), DeviceError),
        (PermissionError(errno.EACCES, "no"), DeviceError),
        (RollbackDetected("x"), RollbackDetected),
    ],
)
def test_each_error_has_one_class(error: Exception, kind: type[DeviceError]) -> None:
    assert type(as_device_error(error)) is kind


def test_every_repository_error_of_tuf_is_in_the_table() -> None:
    for kind in vars(tuf).values():
        if isinstance(kind, type) and issubclass(kind, (tuf.RepositoryError, tuf.DownloadError)):
            error = kind("x", 500) if kind is tuf.DownloadHTTPError else kind("x")
            assert type(as_device_error(error)) is not DeviceError


def test_what_a_source_raised_keeps_its_class() -> None:
    source = RepositorySource(lambda: {"timestamp.json": b"x"})
    fetcher = SourceFetcher(source, source.index())

    def fails(name: str, max_length: int) -> bytes:
        raise Malformed(f"{name} is too long")

    source.file = fails  # type: ignore[method-assign]  # the one thing that this test needs to fail
    with pytest.raises(tuf.DownloadError) as caught:
        fetcher.download_bytes(f"{BASE_URL}timestamp.json", 100)
    assert isinstance(as_device_error(caught.value), Malformed)


def test_what_the_index_does_not_list_is_not_found() -> None:
    source = RepositorySource(lambda: {"2.root.json": b"x"})

    with pytest.raises(tuf.DownloadHTTPError) as caught:
        SourceFetcher(source, TufIndex(files={}, at_ms=0)).download_bytes(
            f"{BASE_URL}2.root.json", 100
        )
    assert caught.value.status_code == 404
    assert not source.fetched


def test_what_is_listed_but_gone_is_not_found() -> None:
    source = RepositorySource(dict)
    index = TufIndex(files={"2.root.json": TufFile(1, "0" * 64)}, at_ms=0)

    with pytest.raises(tuf.DownloadHTTPError):
        SourceFetcher(source, index).download_bytes(f"{BASE_URL}2.root.json", 100)


def test_fetch_gives_the_same_bytes_in_one_piece() -> None:
    source = RepositorySource(lambda: {"timestamp.json": b"x"})
    fetcher = SourceFetcher(source, source.index())

    assert list(fetcher.fetch(f"{BASE_URL}timestamp.json")) == [b"x"]
    assert fetcher.bytes_fetched == 1
