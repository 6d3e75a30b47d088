"""What a release may cost on a metered link, judged before its first chunk is fetched. Pure.

Bytes are counted before compression, so the link carries less. A reuse that fails makes a release
dearer, and so it waits: it never turns into a full fetch that nobody asked for.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from agent.errors import OverBudget
from agent.store.staging import Plan
from contract.messages import FamilyAssignment

LIST_ENTRY_BYTES = 36
"""Of a binary chunk list (model.chunks)."""


@dataclass(frozen=True)
class Budget:
    """The most that one release may cost, and who says so."""

    most: int
    """Bytes; 0: any number."""
    said_by: str


def stricter(device: int, wanted: FamilyAssignment) -> Budget:
    """The lower of the device's own bound (0: none) and the assignment's."""
    own = Budget(device, "metered_bytes_per_release of this device")
    assigned = Budget(wanted.metered_bytes or 0, f"the budget of rollout {wanted.rollout}")
    bounds = [budget for budget in (own, assigned) if budget.most]
    return min(bounds, key=lambda budget: budget.most, default=own)


def require_budget(budget: Budget, plan: Plan, fetched: Collection[str], target: str) -> None:
    """Raise `OverBudget` with the figures when a release costs more.

    `fetched` holds the chunks that earlier tries have brought as well as those still to come, so
    that retries cannot add up to more.
    """
    cost = sum(plan.lengths[digest] for digest in fetched)
    cost += sum(ref.chunks.count * LIST_ENTRY_BYTES for ref in plan.files if ref.chunks)
    if budget.most and cost > budget.most:
        raise OverBudget(
            f"{target} would cost {cost} bytes, of {plan.full_bytes} in all; allowed are"
            f" {budget.most} ({budget.said_by})"
        )
