"""The hub's blob store: framed payloads on disk, each under the digest of what it unpacks to.

A blob's content never changes, so a file that is there is never written again. Knows nothing of
releases; what may be deleted is fleet.releases' business.
"""

from __future__ import annotations

from pathlib import Path

from contract.errors import InvalidTopic
from contract.ids import is_digest
from fleet.errors import BlobMissing
from fleet.files import write_whole

MAX_BLOB_BYTES = 131_072


class BlobStore:
    """Blobs under `directory/ab/<digest>`."""

    def __init__(self, directory: Path) -> None:
        """The directory is made when the first blob comes."""
        self._directory = directory

    def put(self, digest: str, payload: bytes) -> bool:
        """Store a framed payload durably; False when it was there already."""
        path = self._path(digest)
        if path.exists():
            return False
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_whole(path, payload)
        return True

    def get(self, digest: str) -> bytes:
        """The framed payload; raises `BlobMissing`."""
        try:
            with self._path(digest).open("rb") as file:
                return file.read(MAX_BLOB_BYTES)
        except OSError as error:
            raise BlobMissing(f"blob {digest[:16]}…: {error.strerror}") from error

    def size(self, digest: str) -> int:
        """Of the framed payload; raises `BlobMissing`."""
        try:
            return self._path(digest).stat().st_size
        except OSError as error:
            raise BlobMissing(f"blob {digest[:16]}…: {error.strerror}") from error

    def __contains__(self, digest: str) -> bool:
        return self._path(digest).exists()

    def discard(self, digest: str) -> None:
        """Forget a blob that no release needs; being absent already is fine."""
        self._path(digest).unlink(missing_ok=True)

    def _path(self, digest: str) -> Path:
        if not is_digest(digest):
            raise InvalidTopic(f"{digest[:80]!r} is not a SHA-256 in lower-case hex")
        return self._directory / digest[:2] / digest
