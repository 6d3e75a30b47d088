"""What is wrong, from a hub's status: one line each, with what to do. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

LOW_DISK_BYTES = 1 << 30


def problems(status: Mapping[str, Any]) -> list[str]:
    """Worst first."""
    return [*_broker(status), *_trust(status), *_rollouts(status), *_devices(status)]


def _broker(status: Mapping[str, Any]) -> list[str]:
    found = []
    if not status["broker"]["connected"]:
        found.append(
            "the hub has no connection to its broker: devices go on serving, but hear nothing new;"
            " see the hub's log and mosquitto/"
        )
    if status["storage"]["free_bytes"] < LOW_DISK_BYTES:
        found.append("less than 1 GiB of disk is left: make room before the database cannot grow")
    return found


def _trust(status: Mapping[str, Any]) -> list[str]:
    tuf = status["tuf"]
    if not tuf["versions"]:
        return ["no trust root yet: run `outrider keys init` and publish its trust.json"]
    found = []
    for role in tuf["expired"]:
        found.append(
            f"trust metadata {role!r} has expired: devices take no new release; {_do(role)}"
        )
    for role in tuf["soon"]:
        found.append(f"trust metadata {role!r} expires soon: {_do(role)}")
    return found


def _do(role: str) -> str:
    if role in ("snapshot", "timestamp"):
        return "the hub signs it itself: look at its log"
    return "sign it again with the offline keys"


def _rollouts(status: Mapping[str, Any]) -> list[str]:
    return [
        f"rollout {row['id']} ({row['target']}) is paused: {row['reason']};"
        f" `outrider rollout why {row['id']}` tells more"
        for row in status["rollouts"]["open"]
        if row["status"] == "paused"
    ]


def _devices(status: Mapping[str, Any]) -> list[str]:
    devices, found = status["devices"], []
    if devices["silent"]:
        found.append(
            f"{devices['silent']} of {devices['enrolled']} devices are silent:"
            " `outrider device list` shows which"
        )
    if devices["on_hold"]:
        found.append(
            f"{devices['on_hold']} devices rolled back by themselves and hold:"
            " `outrider device show NAME` says why"
        )
    if status["rejected"]:
        total = sum(row["count"] for row in status["rejected"])
        last = status["rejected"][0]
        found.append(f"{total} messages were refused, last {last['error']} on {last['last_topic']}")
    return found
