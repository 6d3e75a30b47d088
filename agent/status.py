"""`S/run/status.json`: what the running agent says of itself, for `outrider agent status`.

Written by the main loop by rename, without synchronising: it is worthless after a reboot. Readers
need no socket and no permission but to read.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from agent.errors import DeviceError
from agent.lock import is_held
from contract.messages import FamilyState

_MAX_BYTES = 1 << 20


class NotRunning(DeviceError):
    """No agent runs on this state directory; the message says how to start one."""


class AgentStatus(msgspec.Struct, frozen=True, kw_only=True):
    """A snapshot of the agent's condition."""

    schema: int = 1
    device: str
    agent: str
    pid: int
    at_ms: int
    started_at_ms: int
    clock_trusted: bool
    hub_url: str
    broker: str
    connected: bool
    connection_error: str = ""
    connections: int = 0
    """Connections made since the agent's start."""
    assignment_seq: int = 0
    families: dict[str, FamilyState] = {}
    tuf_versions: dict[str, int] = {}
    trust_error: str = ""
    """Why the last refresh of signed metadata failed."""
    certificate_begins_ms: int | None = None
    certificate_ends_ms: int | None = None
    """When this device's certificate ends; it is renewed well before."""
    renewal_error: str = ""
    """Why the last try to renew it failed."""
    outbox_pending: int = 0
    outbox_bytes: int = 0
    outbox_dropped: int = 0
    refused: dict[str, int] = {}
    """Topic -> messages refused."""
    dropped: int = 0
    """Messages dropped since the main loop did not keep up."""
    server: str = ""
    server_pid: int | None = None
    server_restarts: int = 0
    http_port: int | None = None
    updates: str = "on"
    """`on`, or why this agent only serves."""


def status_file(state_dir: Path) -> Path:
    """Where the snapshot is."""
    return state_dir / "run" / "status.json"


def write_status(state_dir: Path, status: AgentStatus) -> None:
    """Replace the snapshot; an error is the caller's to log and otherwise to ignore."""
    path = status_file(state_dir)
    temporary = path.with_suffix(".new")
    temporary.write_bytes(msgspec.json.format(msgspec.json.encode(status)) + b"\n")
    os.replace(temporary, path)


def remove_status(state_dir: Path) -> None:
    """The agent has stopped."""
    status_file(state_dir).unlink(missing_ok=True)


def read_status(state_dir: Path) -> dict[str, Any]:
    """The running agent's snapshot; raises `NotRunning`."""
    start = f"start it with `outrider agent run --state {state_dir}` or `systemctl start"
    if not state_dir.is_dir():
        raise NotRunning(f"{state_dir} is not there: enrol the device, or give --state")
    if not is_held(state_dir):
        raise NotRunning(f"no agent runs on {state_dir}; {start} outrider-agent`")
    try:
        with status_file(state_dir).open("rb") as file:
            found: Mapping[str, Any] = json.loads(file.read(_MAX_BYTES))
    except (OSError, ValueError) as error:
        raise NotRunning(f"the agent on {state_dir} is still starting") from error
    return dict(found)
