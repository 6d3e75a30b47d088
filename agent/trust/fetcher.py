"""python-tuf's way to metadata over a `MetadataSource`.

The index is a hint: what it does not list is answered with 404, which is how TUF learns that there
is no newer root. It can withhold, as any broker can, and prove nothing.
"""

from __future__ import annotations

from collections.abc import Iterator

from tuf.api.exceptions import DownloadError, DownloadHTTPError, DownloadLengthMismatchError
from tuf.ngclient import FetcherInterface

from agent.errors import DeviceError, NotListed
from agent.ports import MetadataSource
from contract.messages import TufIndex

BASE_URL = "outrider:///"
_MAX_BYTES = 1 << 20


class SourceFetcher(FetcherInterface):
    """Serves one refresh; `index` is asked for once, before it."""

    def __init__(self, source: MetadataSource, index: TufIndex) -> None:
        self._source = source
        self._index = index
        self.bytes_fetched = 0

    def _fetch(self, url: str) -> Iterator[bytes]:
        yield self.download_bytes(url, _MAX_BYTES)

    def download_bytes(self, url: str, max_length: int) -> bytes:
        """Raises python-tuf's download errors; a `DeviceError` is kept as their cause."""
        name = url.removeprefix(BASE_URL)
        if name not in self._index.files:
            raise DownloadHTTPError(f"{name[:130]} is not listed", 404)
        try:
            data = self._source.file(name, max_length)
        except NotListed as error:
            raise DownloadHTTPError(str(error), 404) from error
        except DeviceError as error:
            raise DownloadError(f"{name}: {error}") from error
        if len(data) > max_length:
            raise DownloadLengthMismatchError(f"{name}: longer than {max_length} bytes")
        self.bytes_fetched += len(data)
        return data
