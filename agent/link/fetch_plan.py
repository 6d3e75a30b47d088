"""Which blobs to ask for next, and how: the window of one fetch. Pure; time is passed in.

A blob is asked for by SUBSCRIBE; when nothing at all arrives for a while it is asked for once more,
and then through `want`. Waiting is counted from the last arrival of *any* blob, since a slow link
delivers a window one by one, and for a while from the last part of one. A blob that came with a
wrong digest is asked for once more.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from agent.errors import Tampered, TransportFailed
from agent.link.rate import TokenBucket
from agent.link.window import Window
from agent.ports import BlobRef


@dataclass(frozen=True)
class Patience:
    """How long to wait for what, in seconds."""

    ask_s: float = 4.0
    """Without any arrival, before a blob is asked for again, and then wanted."""
    coming_s: float = 120.0
    """The same while a blob comes in parts: asked for again it would only come twice."""
    cold_ask_s: float = 1.0
    """The same once the broker was found to lack blobs."""
    want_again_s: float = 6.0
    want_limit_s: float = 120.0
    reconnect_s: float = 120.0


@dataclass(frozen=True)
class Ask:
    """One blob under way. `asked` counts subscriptions, `wanted` the requests to the hub."""

    ref: BlobRef
    since: float
    asked: int = 1
    wanted: int = 0
    first_wanted: float = 0.0
    broken: str = ""


@dataclass(frozen=True)
class Step:
    """What to send now."""

    subscribe: tuple[BlobRef, ...] = ()
    want: tuple[BlobRef, ...] = ()


_NOTHING = Step()


@dataclass
class FetchPlan:
    """The progress of one fetch; owned by the worker that fetches."""

    patience: Patience
    pending: deque[BlobRef]
    open: dict[str, Ask] = field(default_factory=dict)
    cold: bool = False
    last_arrival: float = 0.0
    last_part: float = 0.0
    rate: TokenBucket = field(default_factory=TokenBucket)
    window: Window = field(default_factory=Window)
    open_bytes: int = 0

    @classmethod
    def of(
        cls,
        wanted: Iterable[BlobRef],
        patience: Patience,
        now: float,
        rate: TokenBucket | None = None,
    ) -> FetchPlan:
        """A plan for these blobs, each once, at no more than this rate."""
        unique = {ref.digest: ref for ref in wanted}
        bucket = TokenBucket() if rate is None else rate
        return cls(patience, deque(unique.values()), last_arrival=now, rate=bucket)

    @property
    def done(self) -> bool:
        """Whether every blob is here."""
        return not self.pending and not self.open

    def fill(self, now: float) -> Step:
        """Open more of the window once half of it is free."""
        if not self.pending or not self.window.opens(len(self.open), self.open_bytes):
            return _NOTHING
        fresh = []
        while self.pending and self._admits(self.pending[0]) and self.rate.may_spend(now):
            ref = self.pending.popleft()
            self.rate.spend(ref.length)
            self.open[ref.digest] = Ask(ref, now)
            self.open_bytes += ref.length
            fresh.append(ref)
        return Step(subscribe=tuple(fresh))

    def arrived(self, digest: str, received: int, now: float) -> None:
        """The blob is here, in so many bytes, and has its digest."""
        ask = self.open.pop(digest)
        self.open_bytes -= ask.ref.length
        self.rate.give_back(ask.ref.length - received)
        self.last_arrival = now
        if ask.asked == 1 and not ask.wanted:
            self.window.arrived(now - ask.since)

    def coming(self, now: float) -> None:
        """Part of a blob is here; of which one nobody knows."""
        self.last_part = now

    def absent(self, digest: str, now: float) -> Step:
        """The broker says that it does not hold the blob: only the hub can help."""
        self.cold = True
        return self._want([self.open[digest]], now)

    def broken(self, digest: str, why: str, now: float) -> Step:
        """The blob came with wrong bytes: once more; `Tampered` the second time."""
        ask = self.open[digest]
        self.last_arrival = now
        if ask.broken:
            raise Tampered(f"blob {digest[:16]}… came twice with wrong bytes: {why}")
        self.open[digest] = replace(ask, broken=why, since=now)
        return Step(subscribe=(ask.ref,))

    def overdue(self, now: float) -> Step:
        """What has not come in time; raises `TransportFailed` when the hub did not help either."""
        again: list[Ask] = []
        missing: list[Ask] = []
        wants: list[Ask] = []
        for ask in self.open.values():
            quiet = now - self._heard(ask)
            if ask.wanted:
                self._give_up(ask, now)
                if quiet >= self.patience.want_again_s:
                    wants.append(ask)
            elif quiet >= self._ask_s():
                (again if ask.asked == 1 else missing).append(ask)
        for ask in again:
            self.open[ask.ref.digest] = replace(ask, asked=2, since=now)
        self.cold = self.cold or bool(missing)
        want = self._want([*missing, *wants], now).want
        return Step(subscribe=tuple(ask.ref for ask in again), want=want)

    def reconnected(self, now: float) -> Step:
        """A new session has forgotten every subscription: ask for the open ones anew."""
        self.last_arrival = now
        self.window = Window()
        for digest, ask in self.open.items():
            self.open[digest] = Ask(ask.ref, now, broken=ask.broken)
        return Step(subscribe=tuple(ask.ref for ask in self.open.values()))

    def _admits(self, ref: BlobRef) -> bool:
        return self.window.admits(len(self.open) + 1, self.open_bytes + ref.length)

    def _heard(self, ask: Ask) -> float:
        whole = max(ask.since, self.last_arrival)
        return max(whole, min(self.last_part, whole + self.patience.coming_s))

    def _ask_s(self) -> float:
        return self.patience.cold_ask_s if self.cold else self.patience.ask_s

    def _give_up(self, ask: Ask, now: float) -> None:
        if now - max(ask.first_wanted, self.last_arrival) >= self.patience.want_limit_s:
            raise TransportFailed(
                f"blob {ask.ref.digest[:16]}… is not at the broker, and the hub did not send it"
                f" within {self.patience.want_limit_s:.0f} s"
            )

    def _want(self, asks: list[Ask], now: float) -> Step:
        for ask in asks:
            self.open[ask.ref.digest] = replace(
                ask,
                since=now,
                wanted=ask.wanted + 1,
                first_wanted=ask.first_wanted if ask.wanted else now,
            )
        return Step(want=tuple(ask.ref for ask in asks))
