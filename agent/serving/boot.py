"""Which model each family starts with, from serving.json alone: no network, no control process.

`current` serves unless it cannot be loaded, its digests are wrong, or the process died with it
`crashes.MAX_DEATHS` times while it was on probation. Then the nearest predecessor that
can be loaded serves, and the status says `fallback` with the cause; the control process decides
what follows from that.
"""

from __future__ import annotations

import logging
from pathlib import Path

from agent.errors import Crashed, DeviceError, Malformed
from agent.serving.crashes import MAX_DEATHS, CrashNotes
from agent.serving.dataplane import DataPlane
from agent.store.serving_file import ServingEntry, read_serving

_MOST_PREDECESSORS = 8
_log = logging.getLogger(__name__)


class CrashLoop(Crashed):
    """The process died again and again while this model was on probation."""


async def serve_again(plane: DataPlane, crashes: CrashNotes, state_dir: Path) -> dict[str, str]:
    """Load what serving.json names; returns, for each family that is not served, why."""
    unserved: dict[str, str] = {}
    try:
        serving = read_serving(state_dir)
    except Malformed as error:
        _log.error("nothing is served until the control process says what: %s", error)
        return unserved
    for family, entry in serving.families.items():
        reason = await _serve_family(plane, crashes, family, entry)
        if reason is not None:
            unserved[family] = str(reason)[:600]
    return unserved


async def _serve_family(
    plane: DataPlane, crashes: CrashNotes, family: str, entry: ServingEntry
) -> DeviceError | None:
    """Serve the entry or else its predecessor; None, or why neither could be."""
    try:
        _refuse_crash_loop(crashes, family, entry)
        await _serve(plane, family, entry, None)
        if entry.probation:
            crashes.serving(family, entry.digest)
        else:
            crashes.forget(family)
        return None
    except DeviceError as error:
        _log.error("%s cannot be served: %s", entry.target, error)
        return await _serve_predecessor(plane, family, entry.previous, error)


async def _serve_predecessor(
    plane: DataPlane, family: str, entry: ServingEntry | None, why: DeviceError
) -> DeviceError | None:
    """Serve the nearest predecessor that can be; else the reason why the first one cannot."""
    for _ in range(_MOST_PREDECESSORS):
        if entry is None:
            break
        try:
            await _serve(plane, family, entry, why)
            _log.warning("%s: serving %s instead", family, entry.target)
            return None
        except DeviceError as error:
            _log.error("%s cannot be served either: %s", entry.target, error)
            entry = entry.previous
    return why


async def _serve(
    plane: DataPlane, family: str, entry: ServingEntry, fallback: DeviceError | None
) -> None:
    await plane.load(family, entry.digest, Path(entry.directory), entry.variant)
    plane.activate(family, entry.digest, fallback)


def _refuse_crash_loop(crashes: CrashNotes, family: str, entry: ServingEntry) -> None:
    if not entry.probation:
        return
    deaths = crashes.deaths_at_boot(family, entry.digest)
    if deaths >= MAX_DEATHS:
        raise CrashLoop(f"the server died {deaths} times with {entry.target} on probation")
