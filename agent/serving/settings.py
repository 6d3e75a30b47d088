"""What the inference server is told at its start, checked once, and frozen."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass, field
from pathlib import Path

from agent.serving.access import Access, is_loopback
from agent.serving.dataplane import Limits

MAX_BODY_BYTES = 16 * 1024 * 1024
MIN_TOKEN_CHARS = 16


class BadServingSettings(Exception):
    """The server was asked to start in a way that it cannot or will not; the message says why."""


@dataclass(frozen=True)
class ServingSettings:
    """The server's slice of the agent's settings."""

    state_dir: Path
    host: str = "127.0.0.1"
    port: int = 8080
    """0: the port of last time when it is still free, else any."""
    token_file: Path | None = None
    limits: Limits = field(default_factory=Limits)
    max_body_bytes: int = MAX_BODY_BYTES
    body_timeout_s: float = 30.0
    drain_s: int = 10
    """How long running requests may take to finish at a stop."""
    notify_socket: str = ""
    """systemd's, empty when the server is not a unit of its own."""

    def access(self) -> Access:
        """Who may ask over TCP; refuses to listen off loopback without a token."""
        token = None if self.token_file is None else read_token(self.token_file)
        if is_loopback(self.host):
            return Access(token)
        if token is None:
            raise BadServingSettings(
                f"{self.host} can be reached from other machines: give --token-file as well,"
                " or listen on 127.0.0.1"
            )
        return Access(token, any_host=True)


def notify_socket() -> str:
    """Where systemd wants to hear from this process; empty for nowhere."""
    return os.environ.get("NOTIFY_SOCKET", "")


def read_token(path: Path) -> str:
    """The bearer token in a private file; raises `BadServingSettings`."""
    try:
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            data = file.read(1024)
    except OSError as error:
        raise BadServingSettings(f"cannot read the token file {path}: {error.strerror}") from error
    if stat.S_IMODE(mode) & 0o077:
        raise BadServingSettings(f"others may read the token file {path}; use chmod 600")
    token = data.strip().decode("ascii", errors="replace")
    if len(token) < MIN_TOKEN_CHARS or not token.isprintable() or not token.isascii():
        raise BadServingSettings(f"{path} does not hold {MIN_TOKEN_CHARS} printable characters")
    return token
