"""What the deployments have to tell, from the journal to the outbox: each event once.

A draft is journalled together with the state that makes it true, so it survives until the outbox
has it, whatever is cut in between: the outbox knows a draft that waits there by its key.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

import msgspec

from agent.deployment.drafts import EventDraft, decode_draft
from agent.deployment.ports import Checkpoint
from agent.errors import DiskFull
from agent.journal import Journal
from contract.errors import ContractError

log = logging.getLogger(__name__)


class Handover:
    """Owned by the main loop. `emit` raises `DiskFull` when the outbox cannot take a draft."""

    def __init__(
        self, journal: Journal, emit: Callable[[EventDraft], None], checkpoint: Checkpoint
    ) -> None:
        self._journal = journal
        self._emit = emit
        self._checkpoint = checkpoint
        self._emitted: set[int] = set()
        """What the outbox has and the journal could not forget yet. Once such a draft is
        acknowledged, the outbox would take it for a new one."""

    def flush(self) -> None:
        """Hand over what is true already; what the outbox cannot take stays."""
        try:
            for number, data in self._journal.drafts():
                self._hand_over(number, data)
        except DiskFull as error:
            log.warning("events wait in the journal: %s", error)

    def _hand_over(self, number: int, data: bytes) -> None:
        if number not in self._emitted:
            try:
                self._emit(decode_draft(data))
            except (msgspec.MsgspecError, ContractError):
                # No later try would fare better, and the events behind it must not wait for ever.
                log.exception("a defect: event %d cannot be told", number)
            self._emitted.add(number)
            self._checkpoint("draft:emitted")
        self._journal.forget_drafts([number])
        self._emitted.discard(number)
