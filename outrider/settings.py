"""What the command line takes from its environment, read once. No other file here reads it."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Environment:
    """Where things are by default, for the account that runs the command."""

    operator_file: Path
    """url, token and CA of the hub that this account operates."""
    agent_state: Path
    """The device's state directory."""
    measurements: Path
    """Where conversions keep the latencies that they measured on this host."""


def read_environment() -> Environment:
    """From OUTRIDER_OPERATOR_CONFIG, XDG_CONFIG_HOME, OUTRIDER_STATE_DIR, OUTRIDER_CACHE_DIR and
    XDG_CACHE_HOME."""
    configured = os.environ.get("OUTRIDER_OPERATOR_CONFIG")
    home = Path(os.environ.get("XDG_CONFIG_HOME") or _home() / ".config")
    kept = os.environ.get("OUTRIDER_CACHE_DIR")
    caches = Path(os.environ.get("XDG_CACHE_HOME") or _home() / ".cache")
    return Environment(
        operator_file=Path(configured) if configured else home / "outrider" / "operator.json",
        agent_state=Path(os.environ.get("OUTRIDER_STATE_DIR") or "/var/lib/outrider"),
        measurements=(Path(kept) if kept else caches / "outrider") / "measurements",
    )


def _home() -> Path:
    """`/` for an account that has none, as a container's may: what is looked up there is absent."""
    try:
        return Path.home()
    except RuntimeError:
        return Path("/")


def child_environment() -> dict[str, str]:
    """The environment for a child process: ours, less what systemd meant for us alone."""
    ours = dict(os.environ)
    for name in ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"):
        ours.pop(name, None)
    return ours
