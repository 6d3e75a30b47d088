"""What the journal remembers of the deployments, and what to make of it where serving.json does
not know the same families.

A lost journal leaves a device that serves, and goes on serving. Trust is not restored by this; a
new assignment is checked like any other. A lost or broken serving.json is written from the journal.
"""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Mapping

import msgspec

from agent.deployment.state import Deployment, Serving, decode_deployment
from agent.deployment.switching import SwitchParts, write_entry
from agent.errors import DiskFull, Malformed
from agent.journal import Journal, JournalBroken
from agent.store.layout import Layout
from agent.store.serving_file import ServingEntry, read_serving

log = logging.getLogger(__name__)


def recorded(journal: Journal) -> dict[str, Deployment]:
    """Every deployment as it was left; raises `JournalBroken` when the rows are not ours."""
    try:
        rows = journal.deployments()
    except sqlite3.DatabaseError as error:
        raise JournalBroken(f"the journal's deployments: {error}") from error
    found = {}
    for family, data in rows.items():
        try:
            found[family] = decode_deployment(data)
        except (msgspec.MsgspecError, ValueError, RecursionError) as error:
            raise JournalBroken(f"the journal's deployment of {family}: {error}") from error
    return found


def recovered(layout: Layout, known: Mapping[str, Deployment]) -> dict[str, Deployment]:
    """A deployment at rest for each family that serves and is not in the journal."""
    try:
        families = read_serving(layout.state_dir).families
    except Malformed as error:
        log.warning("serving.json is written anew from the journal: %s", error)
        return {}
    return {
        family: _at_rest(family, entry) for family, entry in families.items() if family not in known
    }


def write_missing(parts: SwitchParts, known: Mapping[str, Deployment]) -> None:
    """Make the store's folders, and the entries of serving.json that should be there and are not.

    With a full disk that waits for the next boot: what serves goes on serving.
    """
    try:
        for directory in (parts.layout.store, parts.layout.staging):
            directory.mkdir(parents=True, exist_ok=True)
        for state in _missing(parts.layout, known):
            write_entry(parts, state)
    except (DiskFull, OSError) as error:
        log.warning("serving.json and the store stay as they are: %s", error)


def _missing(layout: Layout, known: Mapping[str, Deployment]) -> list[Deployment]:
    """The deployments that serve something and do not stand in serving.json."""
    try:
        families = read_serving(layout.state_dir).families
    except Malformed:
        families = {}
    return [s for family, s in known.items() if s.serving is not None and family not in families]


def _at_rest(family: str, entry: ServingEntry) -> Deployment:
    behind = () if entry.previous is None else (_serving(entry.previous),)
    return Deployment(family=family, serving=_serving(entry), fallbacks=behind)


def _serving(entry: ServingEntry) -> Serving:
    return Serving(digest=entry.digest, target=entry.target, variant=entry.variant)
