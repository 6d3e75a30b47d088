"""The way back by command, held to the family's floor.

An assignment is held to it where it is fetched. A rollback that the device decides on by itself is
not: a release that fails has to be left, and what stood before it is better than nothing.
"""

from __future__ import annotations

from agent.deployment.state import Deployment, Stage
from agent.errors import PolicyRefused
from agent.journal import Journal


def require_above_floor(journal: Journal, state: Deployment) -> None:
    """Raise `PolicyRefused` when what stands behind the committed release is below the floor."""
    if state.stage is not Stage.COMMITTED or not state.fallbacks:
        return
    behind = state.fallbacks[0]
    known, floor = journal.verified_release(behind.digest), journal.min_counter(state.family)
    if known is not None and known.counter < floor:
        raise PolicyRefused(
            f"{behind.target} has counter {known.counter}; the family's floor is {floor}"
        )
