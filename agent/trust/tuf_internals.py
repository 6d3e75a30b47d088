"""The one file that touches what python-tuf keeps private; held to `tuf>=7.0.1,<8`.

python-tuf takes the time from the system's clock, which on a board without a battery starts in 1970
so that nothing ever expires. It also keeps to itself what it has verified, and we need the versions
and the expiries. tests/agent/trust/test_tuf_internals.py holds this file against the installed tuf.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timezone

from tuf.api.metadata import Root, Signed, Snapshot
from tuf.ngclient import Updater

from contract.trust import ROOT, SNAPSHOT, TARGETS, TIMESTAMP


def set_reference_time(updater: Updater, now_ms: int) -> None:
    """Judge expiry by this time. Call it before the updater's refresh."""
    trusted = updater._trusted_set
    trusted.reference_time = datetime.fromtimestamp(now_ms / 1000, timezone.utc)


def verified_root(updater: Updater) -> Root:
    """The newest root that verified, also when the refresh then failed."""
    return updater._trusted_set.root


def verified_snapshot(updater: Updater) -> Snapshot:
    """The snapshot of a good refresh."""
    return updater._trusted_set.snapshot


def verified_roles(updater: Updater, families: Iterable[str]) -> dict[str, Signed]:
    """Role -> metadata, of the top roles and those of `families` that were loaded."""
    trusted = updater._trusted_set
    names = [ROOT, TIMESTAMP, SNAPSHOT, TARGETS, *families]
    found = {name: trusted.get(name) for name in names}
    return {name: signed for name, signed in found.items() if signed is not None}
