"""What a device may believe at one moment: a frozen value, and its durable record.

A view comes from a good refresh, or from the record of the last good one, with which assignments
and commands can be verified at boot without the network. A record is plain data with a checksum:
whoever can write it can write the journal too; it protects against torn writes only.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from agent.errors import DeviceError, Untrusted
from agent.store.durable import write_durably
from contract.envelope import PublicKey
from contract.ids import digest_of
from contract.targets import HubKeys, ReleaseCustom

RECORD = "last-good.view"
MAX_RECORD_BYTES = 16 << 20


class TrustedRelease(msgspec.Struct, frozen=True):
    """A release that offline keys vouch for."""

    target: str
    digest: str
    """SHA-256 of the manifest."""
    length: int
    custom: ReleaseCustom


@dataclass(frozen=True)
class TrustedView:
    """What signed metadata says, as of `now_ms`, the trusted time at which it was looked at."""

    hub_keys: Mapping[str, PublicKey]
    releases: Mapping[str, TrustedRelease]
    counters: Mapping[str, int]
    versions: Mapping[str, int]
    now_ms: int
    ca_roots: Sequence[str] = ()
    """Exactly the roots (PEM) to trust for TLS; empty: those that are trusted already."""
    refused: Mapping[str, DeviceError] = field(default_factory=dict)
    """Targets and families that could not be looked up, each with its reason: a family in trouble
    does not stop another."""

    def release(self, target: str) -> TrustedRelease:
        """Raises `Untrusted` when nobody vouches for it, or what went wrong while asking."""
        family = target.partition("/")[0]
        refusal = self.refused.get(target) or self.refused.get(family)
        if refusal is not None:
            raise refusal
        if target not in self.releases:
            raise Untrusted(f"{target}: not among the signed releases of {family}")
        return self.releases[target]

    def min_counter(self, family: str) -> int:
        """The highest `min_counter` ever seen for the family; 0 when none was."""
        return self.counters.get(family, 0)


class ViewRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A view on disk, without its time."""

    schema: int = 1
    hub_keys: HubKeys
    releases: list[TrustedRelease]
    counters: dict[str, int]
    versions: dict[str, int]
    ca_roots: list[str] = []

    def of(self, family: str) -> list[TrustedRelease]:
        """The releases of one family."""
        return [release for release in self.releases if release.custom.family == family]

    def view(self, now_ms: int) -> TrustedView:
        """The view as of `now_ms`."""
        return TrustedView(
            hub_keys=self.hub_keys.by_id(),
            releases={release.target: release for release in self.releases},
            counters=self.counters,
            versions=self.versions,
            now_ms=now_ms,
            ca_roots=tuple(self.ca_roots),
        )


def save_record(directory: Path, record: ViewRecord) -> None:
    """Durable when it returns."""
    body = msgspec.json.encode(record)
    write_durably(directory / RECORD, digest_of(body).encode() + b"\n" + body)


def load_record(directory: Path) -> ViewRecord | None:
    """None when there is none, or it is torn, or another program wrote it."""
    try:
        with (directory / RECORD).open("rb") as file:
            digest, _, body = file.read(MAX_RECORD_BYTES).partition(b"\n")
    except OSError:
        return None
    if digest_of(body).encode() != digest:
        return None
    try:
        record = msgspec.json.decode(body, type=ViewRecord)
    except (msgspec.MsgspecError, ValueError):
        return None
    return record if record.schema == 1 else None
