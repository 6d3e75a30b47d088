"""What is wrong, from a hub's status: one line each, with what to do. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timezone
from typing import Any

from contract.trust import SNAPSHOT, TIMESTAMP
from fleet.rollouts.words import counted
from fleet.rotation import DEVICES_FOLLOW

LOW_DISK_BYTES = 1 << 30
DAY_MS = 86_400_000
REVOCATION_LOW_MS = 60 * DAY_MS
"""The list is made for 90 days, every day."""
CA_LOW_MS = 365 * DAY_MS
"""The way to another CA takes as long as the device that is off longest."""
TAKEOVER_LATE_MS = 600_000
"""What was refused longer ago than this is history, and no problem of tonight."""


def problems(status: Mapping[str, Any]) -> list[str]:
    """Worst first."""
    return [
        *_broker(status),
        *_revocation(status),
        *_authority(status),
        *_trust(status),
        *_bucket(status),
        *_rollouts(status),
        *_devices(status),
    ]


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


def _revocation(status: Mapping[str, Any]) -> list[str]:
    revocation, now_ms, found = status["revocation"], status["at_ms"], []
    ends_ms = revocation["ends_ms"]
    if ends_ms is None or ends_ms < now_ms + REVOCATION_LOW_MS:
        when = "cannot be read" if ends_ms is None else f"ends on {day(ends_ms)}"
        found.append(
            f"the broker's list of revoked certificates {when}, and should be made anew every day:"
            " once it is over, no device can connect. The hub's log says what is wrong"
        )
    if revocation["enforced"] is False:
        found.append(
            "the broker lets a revoked certificate in: make it read mosquitto/revoked.crl"
            " (`systemctl reload outrider-broker`)"
        )
    since_ms = revocation["sessions_since_ms"]
    if since_ms is not None and since_ms < now_ms - TAKEOVER_LATE_MS:
        found.append(
            "the broker still holds a session of a device that was revoked: see the hub's log"
        )
    return found


def _authority(status: Mapping[str, Any]) -> list[str]:
    ca = status["ca"]
    if ca["stage"] is not None:
        return [
            f"the way to another CA is under way ({ca['stage']}). Next: {ca['next']}"
            f" ({DEVICES_FOLLOW})"
        ]
    found = []
    if ca["ends_ms"] < status["at_ms"] + CA_LOW_MS:
        found.append(
            f"the CA ends on {day(ca['ends_ms'])}, and nobody can connect after that: take the"
            " fleet to another, which begins with `outrider hub new-ca DIR`"
        )
    if ca["former_believed"]:
        found.append(
            "the broker may still let in whom the former CA certifies, or hold their sessions:"
            " restart it (`systemctl restart outrider-broker`)"
        )
    if ca["former_named"]:
        found.append(
            "policy/ca still names a root that this hub has given up, so devices believe whoever"
            " has its key: `outrider keys ca KEYS --root DIR/ca/root.crt`, then publish"
        )
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
        at = day(tuf["expiries"][role])
        found.append(f"trust metadata {role!r} expires soon, on {at}: {_do(role)}")
    for role, version in tuf["lost"].items():
        found.append(
            f"devices have seen version {version} of {role!r}, and this hub holds"
            f" {tuf['versions'][role]}: they refuse what it publishes as a rollback. Restored from"
            " a backup? Publish again what was published since: trust.json and the bundles"
        )
    if tuf["beyond"]:
        found.append(
            f"{', '.join(tuf['beyond'])}: reports numbers of signed metadata that this hub cannot"
            " have signed. A lie, or stolen online keys: `outrider keys rotate DIR online` ends it"
        )
    if tuf["new_keys_wait"]:
        found.append(
            "new online keys wait for a trust.json that names them: `outrider keys rotate DIR"
            " online --hub-keys hub-keys.json`, then publish"
        )
    return found


def _do(role: str) -> str:
    if role in (SNAPSHOT, TIMESTAMP):
        return "the hub signs it itself: look at its log"
    return f"sign it again with the offline keys: `outrider keys renew DIR {role}`, then publish"


def _bucket(status: Mapping[str, Any]) -> list[str]:
    bucket = status["bucket"]
    if bucket is None or not bucket["trouble"]:
        return []
    return [
        f"the bucket cannot be used: {bucket['trouble']}. Devices get large releases from the hub"
        " itself meanwhile"
    ]


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
            f"{_share(devices, 'silent', 'is', 'are')} silent: `outrider device list` shows which"
        )
    if devices["on_hold"]:
        found.append(
            f"{_share(devices, 'on_hold', 'is', 'are')} on hold, after going back without being"
            " told to: `outrider device show NAME` says why"
        )
    if devices["ahead"]:
        found.append(
            f"{_share(devices, 'ahead', 'holds', 'hold')} a newer assignment than this hub has"
            " made, which wins over its older one. Restored from a backup? Roll out again, or"
            " `outrider rollback`: the next assignment is newer"
        )
    recent = [row for row in status["rejected"] if row["last_at_ms"] > status["at_ms"] - DAY_MS]
    if recent:
        total, last = sum(row["count"] for row in recent), recent[0]
        found.append(
            f"messages refused in the last day: {last['error']} on {last['last_topic']}, and"
            f" {total - 1} others since this hub was made"
        )
    return found


def _share(devices: Mapping[str, int], which: str, one: str, many: str) -> str:
    number = devices[which]
    of = counted(devices["enrolled"], "device")
    return f"{number} of {of} {one if number == 1 else many}"


def day(at_ms: int) -> str:
    """UTC, e.g. 2031-05-01."""
    return datetime.fromtimestamp(at_ms / 1000, timezone.utc).strftime("%Y-%m-%d")
