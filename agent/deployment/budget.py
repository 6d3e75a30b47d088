"""What a release may cost on a metered link, judged before its first chunk is fetched. Pure.

Bytes are counted before compression, so the link carries less. A reuse that fails makes a release
dearer, and so refused: it never turns into a full fetch that nobody asked for.
"""

from __future__ import annotations

from collections.abc import Collection

from agent.errors import PolicyRefused
from agent.store.staging import Plan

LIST_ENTRY_BYTES = 36
"""Of a binary chunk list (model.chunks)."""


def require_budget(budget: int, plan: Plan, fetched: Collection[str], target: str) -> None:
    """Raise `PolicyRefused` with the figures when a release costs more; 0: it may cost anything.

    `fetched` holds the chunks that earlier tries have brought as well as those still to come, so
    that retries cannot add up to more.
    """
    cost = sum(plan.lengths[digest] for digest in fetched)
    cost += sum(ref.chunks.count * LIST_ENTRY_BYTES for ref in plan.files if ref.chunks)
    if budget and cost > budget:
        raise PolicyRefused(
            f"{target} would cost {cost} bytes, of {plan.full_bytes} in all; this device may fetch"
            f" {budget} a release (metered_bytes_per_release)"
        )
