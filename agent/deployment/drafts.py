"""What a deployment has to tell the hub, before the outbox gives it a number and a stamp.

Drafts are journalled in the very transaction that makes them true, and leave the journal only once
the outbox has them.
"""

from __future__ import annotations

import msgspec

from contract.deployments import Cause, Outcome, Phase
from contract.ids import Digest, Id, TargetName
from contract.messages import Count, Detail, Figures

_ENCODER = msgspec.json.Encoder()
MAX_DETAIL_CHARS = 600


class EventDraft(msgspec.Struct, frozen=True, kw_only=True):
    """A contract Event without device, seq and stamp."""

    key: str
    """The same for the same happening, also after a crash between outbox and journal: an outbox
    that already holds a row of this key need not take it again."""
    family: Id
    target: TargetName
    digest: Digest
    rollout: Id | None = None
    assignment_seq: Count = 0
    phase: Phase
    outcome: Outcome | None = None
    cause: Cause | None = None
    detail: Detail = ""
    figures: Figures = {}


_DECODER = msgspec.json.Decoder(EventDraft)


def encode_draft(draft: EventDraft) -> bytes:
    """For the journal."""
    return _ENCODER.encode(draft)


def decode_draft(data: bytes) -> EventDraft:
    """From the journal; raises `msgspec.MsgspecError` when another program wrote it."""
    return _DECODER.decode(data)


def clip(detail: str) -> str:
    """A detail that the wire takes: a long one loses its end, never its beginning."""
    return detail if len(detail) <= MAX_DETAIL_CHARS else detail[: MAX_DETAIL_CHARS - 1] + "…"
