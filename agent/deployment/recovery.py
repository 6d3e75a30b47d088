"""What to make of a serving.json and a journal that do not know the same families.

A lost journal leaves a device that serves, and goes on serving. Trust is not restored by this; a
new assignment is checked like any other. A lost or broken serving.json is written from the journal.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping

from agent.deployment.state import Deployment, Serving
from agent.errors import Malformed
from agent.store.layout import Layout
from agent.store.serving_file import ServingEntry, read_serving

log = logging.getLogger(__name__)


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


def missing_entries(layout: Layout, known: Mapping[str, Deployment]) -> list[Deployment]:
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
