"""What the agent says of itself in status.json, gathered from its parts. Reads, changes nothing."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec

from agent.assembly import Parts
from agent.server_watch import ServerWatch
from agent.serving.protocol import HttpFile, http_file
from agent.status import AgentStatus
from agent.uplink import Condition

_MAX_BYTES = 4_096


def snapshot(
    parts: Parts, condition: Condition, server: ServerWatch, started_ms: int
) -> AgentStatus:
    """As of now."""
    stamp = parts.speaker.stamper.now()
    record = parts.identity.record
    return AgentStatus(
        device=parts.identity.device,
        agent=parts.speaker.agent,
        pid=os.getpid(),
        at_ms=stamp.at_ms,
        started_at_ms=started_ms,
        clock_trusted=stamp.clock_trusted,
        hub_url=record.hub_url,
        broker=f"{record.broker_host}:{record.broker_port}",
        connected=parts.connection.connected,
        connection_error=parts.connection.last_error,
        connections=parts.connection.generation,
        assignment_seq=condition.assignment_seq,
        families=dict(condition.families),
        tuf_versions=dict(condition.tuf_versions),
        trust_error=parts.verifier.last_error,
        certificate_begins_ms=parts.renewal.begins_ms,
        certificate_ends_ms=parts.renewal.ends_ms,
        renewal_error=parts.renewal.last_error,
        outbox_pending=parts.outbox.pending,
        outbox_bytes=parts.outbox.size_bytes,
        outbox_dropped=parts.outbox.dropped,
        refused=parts.rejects.counts(),
        dropped=parts.inbox.dropped,
        server=server.state,
        server_pid=server.pid,
        server_restarts=server.restarts,
        http_port=http_port(parts.settings.state_dir),
    )


def http_port(state_dir: Path) -> int | None:
    """Where the server says that it listens; None when it says nothing."""
    try:
        with http_file(state_dir).open("rb") as file:
            return msgspec.json.decode(file.read(_MAX_BYTES), type=HttpFile).port
    except (OSError, msgspec.MsgspecError, ValueError):
        return None
