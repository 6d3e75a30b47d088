"""What the device's parts ask of each other, as small protocols; no implementation.

Threads of the control process: the link's network thread only enqueues; the main loop owns all
state; two worker threads carry out long effects (one fetches and tries, one switches what serves)
and post their results back.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import msgspec

from contract.messages import TufIndex


class BlobRef(msgspec.Struct, frozen=True):
    """A blob by the SHA-256 and the length in bytes of what it unpacks to."""

    digest: str
    length: int


class MetadataSource(Protocol):
    """Where TUF metadata comes from. Called from the worker thread; blocks."""

    def index(self) -> TufIndex:
        """The hint of what exists; raises `TransportFailed` when none comes in time."""

    def file(self, name: str, max_length: int) -> bytes:
        """One metadata file; raises `NotListed`, `TransportFailed` or `Malformed` (too long)."""


class BlobSource(Protocol):
    """Where blobs come from. Called from the worker thread; blocks."""

    def fetch(
        self,
        target: str,
        wanted: Sequence[BlobRef],
        sink: Callable[[BlobRef, bytes], None],
        cancelled: Callable[[], bool],
    ) -> int:
        """Give each wanted blob to `sink`, unpacked and verified, in any order, each once.

        Returns the payload bytes received. Asks again once for what does not come, then through
        `want` for `target`; a blob with a wrong digest is dropped and asked for once more. Raises
        `TransportFailed` or `Tampered`; blobs already given to `sink` stay good. Stops early,
        without an error, once `cancelled()`.
        """


class TrustJournal(Protocol):
    """What the guard remembers across power cuts; kept in the device's journal, FULL sync."""

    def trust_floor_ms(self) -> int:
        """The latest time that signed metadata has proven, UTC milliseconds; 0 at first."""

    def trust_versions(self) -> dict[str, int]:
        """The highest version accepted of each metadata file (`root`, `timestamp`, ...)."""

    def min_counter(self, family: str) -> int:
        """The highest `min_counter` ever seen for a family; 0 at first."""

    def save_trust(self, floor_ms: int, versions: dict[str, int], counters: dict[str, int]) -> None:
        """Raise the three; durable when it returns. Values only ever grow, except the floor and
        the online roles' versions when the root changed their keys (the caller decides that)."""
