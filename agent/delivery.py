"""Which rows of the outbox to send now: the window of what is under way. Pure; time is passed in.

A row that is not acknowledged is sent again after a wait that doubles, and at once after a
reconnect. So that a row which the hub never acknowledges cannot hold up the others, one that was
sent often leaves the window and is tried on the side, now and then.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from agent.link.backoff import Backoff

WINDOW = 32
_OFTEN = 5
_MOST_ASIDE = 256


@dataclass(frozen=True)
class Sent:
    """How often a row was sent, and when it is due again (monotonic seconds)."""

    times: int
    due: float


@dataclass
class Delivery:
    """The rows that were sent and not yet acknowledged; forgotten with the process."""

    backoff: Backoff = field(default_factory=lambda: Backoff(first_s=10.0, most_s=600.0))
    sent: dict[int, Sent] = field(default_factory=dict)

    def room(self) -> int:
        """How many rows that were not sent yet may go out now."""
        aside = sum(1 for s in self.sent.values() if s.times >= _OFTEN)
        return max(0, WINDOW - (len(self.sent) - min(aside, _MOST_ASIDE)))

    def under_way(self) -> frozenset[int]:
        """The rows that need no first sending."""
        return frozenset(self.sent)

    def overdue(self, now: float) -> list[int]:
        """The rows to send again, oldest first."""
        return sorted(seq for seq, s in self.sent.items() if s.due <= now)[:WINDOW]

    def was_sent(self, seq: int, now: float, chance: float) -> None:
        """The row went out; `chance` in [0, 1) spreads the next try over half of its wait."""
        times = self.sent[seq].times + 1 if seq in self.sent else 1
        wait = self.backoff.bound(times - 1) * (1.0 - chance / 2)
        self.sent[seq] = Sent(times, now + wait)

    def acknowledged(self, seqs: Iterable[int], now: float) -> None:
        """The hub has these. If one of them needed several tries the hub was away: try the rest."""
        late = [self.sent.pop(seq, Sent(1, 0)).times > 1 for seq in seqs]
        if any(late):
            self.sent = {
                seq: Sent(s.times, min(s.due, now)) if s.times < _OFTEN else s
                for seq, s in self.sent.items()
            }

    def forget(self, seqs: Iterable[int]) -> None:
        """These rows left the outbox in another way."""
        for seq in seqs:
            self.sent.pop(seq, None)

    def reconnected(self) -> None:
        """Whatever was under way may be lost: everything goes again."""
        self.sent.clear()
