"""The guard around python-tuf: the trusted clock, the journal's versions, durable metadata.

`refresh` asks the network; `cached_view` never does, so that a device boots and obeys its hub
without one. What python-tuf leaves open is closed here: time, power cuts, and going back.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from tuf.api.exceptions import DownloadError, RepositoryError
from tuf.api.metadata import Root, Signed
from tuf.ngclient import Updater

from agent.errors import RollbackDetected, StaleMetadata
from agent.ports import MetadataSource, TrustJournal
from agent.trust import local
from agent.trust.admission import admit, check_assignment, check_command
from agent.trust.clock import next_floor, trusted_now
from agent.trust.failures import as_device_error
from agent.trust.local import install_root
from agent.trust.lookup import Found, look_up, require_sane_versions
from agent.trust.tuf_internals import (
    verified_roles,
    verified_root,
    verified_snapshot,
)
from agent.trust.updater import new_updater
from agent.trust.view import TrustedRelease, TrustedView, ViewRecord, load_record, save_record
from contract.messages import TufIndex
from contract.trust import (
    ISSUED_AT,
    ROOT,
    SNAPSHOT,
    TIMESTAMP,
)

__all__ = [
    "TrustGuard",
    "TrustedRelease",
    "TrustedView",
    "admit",
    "check_assignment",
    "check_command",
    "install_root",
]

log = logging.getLogger(__name__)


class TrustGuard:
    """One per device; not to be refreshed from two threads at once."""

    def __init__(
        self,
        directory: Path,
        journal: TrustJournal,
        source: MetadataSource,
        clock: Callable[[], int],
        build_ms: int,
        learned: Callable[[TrustedView], None] = lambda view: None,
    ) -> None:
        """`build_ms`: a time that has surely passed, e.g. the enrolment's `floor_ms`. `learned`
        hears of each refresh that succeeded, whoever caused it, on the thread that made it.
        """
        self._directory = directory
        self._journal = journal
        self._source = source
        self._clock = clock
        self._build_ms = build_ms
        self._learned = learned

    def now_ms(self) -> int:
        """The trusted time: the clock's, but never before what signed metadata has proven."""
        return trusted_now(self._clock(), max(self._journal.trust_floor_ms(), self._build_ms))

    def refresh(self, targets: Sequence[str] = ()) -> TrustedView:
        """Fetch and verify what is current; look up `targets`, or without any every release.

        Raises a `DeviceError` by its class. What is wrong with one family of several is raised by
        the view's `release`. When it returns, metadata, record and journal are durable.
        """
        with _translated():
            local.discard_unusable(self._directory)
            view = self._refresh(self._source.index(), targets)
        # One family that was refused is no reason not to follow what the fleet's own metadata says.
        self._learned(view)
        asked = {target.partition("/")[0] for target in targets}
        if asked and asked <= view.refused.keys():
            raise view.refused[asked.pop()]
        return view

    def cached_view(self) -> TrustedView | None:
        """The last good view, with the time of now, without network; None when there is none.

        Also None when the journal has seen newer metadata than the record holds: hub keys that
        were taken back since must not come alive again.
        """
        record = load_record(self._directory)
        if record is None or _below(record.versions, self._journal.trust_versions()):
            return None
        return record.view(self.now_ms())

    def _refresh(self, index: TufIndex, targets: Sequence[str]) -> TrustedView:
        now_ms = self.now_ms()
        updater = self._updater(index, now_ms)
        try:
            updater.refresh()
        except (RepositoryError, DownloadError) as error:
            now_ms = trusted_now(self._clock(), self._build_ms)
            rotated = self._rotated(verified_root(updater))
            if not (TIMESTAMP in rotated and isinstance(as_device_error(error), StaleMetadata)):
                raise
            # The thief of the old key may have pushed the floor; the new root says to forget it.
            log.warning("the root changed the online keys: judging time without the floor")
            updater = self._updater(index, now_ms)
            updater.refresh()
        return self._judge(updater, targets, now_ms)

    def _updater(self, index: TufIndex, now_ms: int) -> Updater:
        return new_updater(self._directory, self._source, index, now_ms)

    def _judge(self, updater: Updater, targets: Sequence[str], now_ms: int) -> TrustedView:
        """Compare with the journal, then make everything durable, the journal last."""
        journal = self._journal.trust_versions()
        rotated = self._rotated(verified_root(updater))
        forgotten = _forgotten(rotated, journal)
        known = {role: version for role, version in journal.items() if role not in forgotten}
        top = _versions(verified_roles(updater, ()))
        require_sane_versions(top)
        if lower := _below(top, known):
            raise RollbackDetected(f"older than what this device has accepted: {lower}")
        found = look_up(updater, targets, known)
        signed = verified_roles(updater, found.families)
        floor_ms = 0 if TIMESTAMP in rotated else self._journal.trust_floor_ms()
        floor_ms = next_floor(floor_ms, self._build_ms, _issued_at(signed), _expiries(signed))
        record = self._record(updater, found, signed, forgotten)
        local.sync(self._directory)
        save_record(self._directory, record)
        # A family that was not asked for is forgotten all the same, or it would never come again.
        versions = dict.fromkeys(forgotten, 0) | record.versions
        self._journal.save_trust(floor_ms, versions, record.counters)
        return replace(record.view(max(now_ms, floor_ms)), refused=found.refused)

    def _record(
        self, updater: Updater, found: Found, signed: dict[str, Signed], forgotten: set[str]
    ) -> ViewRecord:
        """The view to keep, with what an earlier one knew of families that are as they were, or
        whose newer metadata was refused now."""
        versions, releases = _versions(signed), list(found.releases)
        listed = verified_snapshot(updater).meta
        earlier = load_record(self._directory)
        for family, version in (earlier.versions if earlier else {}).items():
            meta = listed.get(f"{family}.json")
            same = meta is not None and meta.version == version
            if family not in versions and (same or family in found.refused):
                versions[family] = version if same or family not in forgotten else 0
                releases += earlier.of(family) if earlier else []
        counters = {
            family: max(counter, self._journal.min_counter(family))
            for family, counter in found.counters.items()
        }
        return ViewRecord(
            hub_keys=found.hub_keys,
            releases=releases,
            counters=counters,
            versions=versions,
            ca_roots=found.ca_roots,
        )

    def _rotated(self, root: Root) -> set[str]:
        """The online roles whose keys changed since the last good refresh: their versions and the
        clock's floor start anew, which is how a fleet recovers from stolen online keys."""
        before = local.local_root(self._directory, self._journal.trust_versions().get(ROOT, 0))
        if before is None:
            return set()
        return {
            role
            for role in (TIMESTAMP, SNAPSHOT)
            if set(before.roles[role].keyids) != set(root.roles[role].keyids)
        }


@contextmanager
def _translated() -> Iterator[None]:
    """Let out `DeviceError`s only."""
    try:
        yield
    except (RepositoryError, DownloadError, OSError, ValueError) as error:
        raise as_device_error(error) from error


def _forgotten(rotated: set[str], journal: dict[str, int]) -> set[str]:
    """Whose versions start anew. A new snapshot key vouches for all that snapshots list, so with
    the old one goes what it listed (TUF specification 5.3.11); the root and the floors stay."""
    return journal.keys() - {ROOT} if SNAPSHOT in rotated else rotated


def _versions(signed: dict[str, Signed]) -> dict[str, int]:
    return {role: metadata.version for role, metadata in signed.items()}


def _below(versions: dict[str, int], known: dict[str, int]) -> str:
    """Which of `versions` are lower than known, in words; empty when none is."""
    lower = {role: v for role, v in versions.items() if v < known.get(role, 0)}
    return ", ".join(f"{role} {v} after {known[role]}" for role, v in lower.items())


def _issued_at(signed: dict[str, Signed]) -> int:
    found = signed[TIMESTAMP].unrecognized_fields.get(ISSUED_AT)
    return found if type(found) is int else 0


def _expiries(signed: dict[str, Signed]) -> list[int]:
    return [int(metadata.expires.timestamp()) * 1000 for metadata in signed.values()]
