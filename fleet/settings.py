"""What the hub's process learns from its environment, read once: systemd's notification socket, and
the keys of an object store."""

from __future__ import annotations

import os
from dataclasses import dataclass, field


@dataclass(frozen=True)
class ProcessSettings:
    """Empty and 0 when no service manager is there."""

    notify_socket: str = ""
    watchdog_s: float = 0.0


@dataclass(frozen=True)
class BucketKeys:
    """What signs requests to an object store. Not shown, whoever prints it."""

    access_key_id: str = field(repr=False)
    secret_access_key: str = field(repr=False)
    session_token: str = field(default="", repr=False)


def read_bucket_keys() -> BucketKeys | None:
    """Under the names that every S3 tool reads; None where there are none."""
    key, secret = os.environ.get("AWS_ACCESS_KEY_ID"), os.environ.get("AWS_SECRET_ACCESS_KEY")
    if not key or not secret:
        return None
    return BucketKeys(key, secret, os.environ.get("AWS_SESSION_TOKEN", ""))


def read_settings() -> ProcessSettings:
    """Anything that systemd did not write is taken for absent."""
    usec = os.environ.get("WATCHDOG_USEC", "")
    return ProcessSettings(
        notify_socket=os.environ.get("NOTIFY_SOCKET", ""),
        watchdog_s=int(usec) / 1e6 if usec.isdecimal() else 0.0,
    )
