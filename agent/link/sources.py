"""Which way a fetch takes: the broker's retained blobs, or the hub over HTTPS.

Small fetches go to the broker, which carries them for the hub; large ones to the hub, since a
broker's store is memory. What the broker does not give in time comes from the hub too: so a hub may
keep a large release off its broker, and a broker with a small store will do.
"""

from __future__ import annotations

import enum
import logging
from collections.abc import Callable, Sequence

from agent.errors import TransportFailed
from agent.ports import BlobRef, BlobSource

_LOG = logging.getLogger(__name__)


class Source(enum.Enum):
    """Where blobs are fetched from."""

    BROKER = "broker"
    HTTPS = "https"


def choose_source(bytes_to_fetch: int, limit: int) -> Source:
    """HTTPS above `limit` bytes, before compression; 0: always HTTPS. Pure."""
    return Source.HTTPS if limit == 0 or bytes_to_fetch > limit else Source.BROKER


class SizedBlobSource:
    """A `BlobSource` over both. Owned by the worker that fetches."""

    def __init__(self, broker: BlobSource, https: BlobSource, limit: int) -> None:
        """`limit`: see `choose_source`."""
        self._broker = broker
        self._https = https
        self._limit = limit
        self._lacking = ""
        """The release whose blobs the broker did not give last time: it is not waited for again."""

    def fetch(
        self,
        target: str,
        wanted: Sequence[BlobRef],
        sink: Callable[[BlobRef, bytes], None],
        cancelled: Callable[[], bool],
    ) -> int:
        """See `agent.ports.BlobSource.fetch`."""
        left = {ref.digest: ref for ref in wanted}
        size = sum(ref.length for ref in left.values())
        if target == self._lacking or choose_source(size, self._limit) is Source.HTTPS:
            return self._https.fetch(target, wanted, sink, cancelled)

        came = 0

        def noted(ref: BlobRef, data: bytes) -> None:
            nonlocal came
            came += ref.length
            del left[ref.digest]
            sink(ref, data)

        try:
            return self._broker.fetch(target, wanted, noted, cancelled)
        except TransportFailed as error:
            _LOG.warning("%s; asking the hub for %d blobs of %s", error, len(left), target)
        # How many bytes the broker sent is not told; what they unpacked to is known.
        received = came + self._https.fetch(target, list(left.values()), sink, cancelled)
        self._lacking = target
        return received
