"""Which TUF files the broker has to be sent: what changed, then the index, then what left it.

Devices ask for what the index lists, so a file is there before it is listed and stays for a day
after it was.
"""

from __future__ import annotations

from collections.abc import Iterator

from contract.codec import encode
from contract.ids import digest_of
from contract.messages import TufFile, TufIndex
from contract.topics import tuf_index_topic, tuf_topic
from fleet.link import Outgoing
from fleet.trust.repository import Repository

KEEP_MS = 24 * 3_600_000


class MetadataFeed:
    """Remembers what was sent on this connection. Owned by the publisher's thread."""

    def __init__(self, repository: Repository) -> None:
        """Nothing was sent yet."""
        self._repository = repository
        self._sent: dict[str, str] = {}
        self._index: dict[str, str] | None = None
        self._left_at_ms: dict[str, int] = {}

    def forget(self) -> None:
        """A new connection: send everything again. It is little."""
        self._sent.clear()
        self._index = None

    def changes(self, now_ms: int) -> Iterator[Outgoing]:
        """What to send, in this order. What was yielded counts as sent when the next is asked for:
        after a lost connection `forget` must be called."""
        files = self._repository.files()
        digests = {name: digest_of(data) for name, data in files.items()}
        for name, digest in digests.items():
            if self._sent.get(name) != digest:
                yield Outgoing(tuf_topic(name), files[name], retain=True)
                self._sent[name] = digest
        if digests and digests != self._index:
            # Of these very bytes: the repository may have moved on since they were read.
            listed = {name: TufFile(len(files[name]), digest) for name, digest in digests.items()}
            index = TufIndex(files=listed, at_ms=now_ms)
            yield Outgoing(tuf_index_topic(), encode(index), retain=True)
            self._index = digests
        yield from self._clear(set(digests), now_ms)

    def _clear(self, listed: set[str], now_ms: int) -> Iterator[Outgoing]:
        for name in [name for name in self._sent if name not in listed]:
            left = self._left_at_ms.setdefault(name, now_ms)
            if now_ms - left >= KEEP_MS:
                yield Outgoing(tuf_topic(name), b"", retain=True)
                del self._sent[name], self._left_at_ms[name]
