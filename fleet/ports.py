"""What the hub's parts ask of each other, and the services that the API is built from.

Every thread that wants something sent writes it to the database, commits, and then wakes the link;
the link reads what it owes the broker. So nothing is lost between a commit and a publish.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from fleet.blobs import BlobStore
from fleet.config import HubConfig
from fleet.packs import Shelf
from fleet.storage.database import Storage
from fleet.trust.repository import Repository

Clock = Callable[[], int]
"""UTC milliseconds now."""


@dataclass(frozen=True)
class LinkStatus:
    """How the hub stands with its broker."""

    connected: bool
    epoch: str | None
    """The broker memory that this hub filled; None before the first connection."""
    received: int
    """Messages taken from the broker since the start."""
    queued: int
    """Messages that wait for the ingest thread."""
    connected_since_ms: int | None
    """None while there is no connection: then the silence of devices says nothing."""


class OutgoingLink(Protocol):
    """The hub's way to the broker, as the API and the engine see it."""

    def wake(self) -> None:
        """Say that the database or the TUF directory holds something new to send; never blocks."""

    def status(self) -> LinkStatus:
        """For `GET /status`; never blocks."""


@dataclass(frozen=True)
class HubServices:
    """Everything that a request may use. Built once by fleet.service."""

    directory: Path
    config: HubConfig
    storage: Storage
    repository: Repository
    blobs: BlobStore
    link: OutgoingLink
    clock: Clock
    shelf: Shelf | None = None
    """None: this hub has no bucket."""
