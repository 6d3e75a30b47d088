"""The name of the broker memory that this hub filled, kept over restarts of the hub.

Written only after the broker took everything, so that a crash half-way leads to sending all again.
"""

from __future__ import annotations

import secrets
from pathlib import Path

from contract.ids import digest_of
from fleet.files import write_whole


class EpochFile:
    """One line of 32 hexadecimal digits."""

    def __init__(self, path: Path) -> None:
        """Reads nothing yet."""
        self._path = path

    def read(self) -> str | None:
        """None when no memory was ever filled."""
        try:
            return self._path.read_text()[:64].strip() or None
        except OSError:
            return None

    def write(self, epoch: str) -> None:
        """From now on a broker that shows this epoch is not sent everything again."""
        self._path.parent.mkdir(mode=0o700, exist_ok=True)
        write_whole(self._path, epoch.encode() + b"\n")

    def fresh(self, key: str) -> str:
        """A name that no memory has had; the one before is void from here on. `key`: the id of the
        key that seals what this memory holds."""
        self._path.unlink(missing_ok=True)
        return secrets.token_hex(8) + _mark(key)


def sealed_by(epoch: str, key: str) -> bool:
    """Whether what a memory of this name holds was sealed by this key. If not, devices would refuse
    the assignments there, once they know that the hub has another one."""
    return epoch.endswith(_mark(key))


def _mark(key: str) -> str:
    return digest_of(key.encode())[:16]
