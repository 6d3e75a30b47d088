"""Whether what came from the hub is genuine, and refreshing signed metadata when that needs it.

A message is checked against the last good view, which needs no network. Only when that view cannot
vouch for it is the message held and a refresh started, on a thread of its own; the refresh's result
comes back to the main loop, which owns everything else here. A stranger's garbage cannot cause a
storm: refreshes that helped nobody back off.
"""

from __future__ import annotations

import random
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

import msgspec

from agent.errors import DeviceError, Untrusted
from agent.link.backoff import Backoff
from agent.link.inbox import Received
from agent.trust.admission import check_assignment, check_command
from agent.trust.view import TrustedView
from contract.messages import Assignment, Command
from contract.topics import Channel

_MAX_HELD_COMMANDS = 8
_STOP_S = 10.0


class Guard(Protocol):
    """agent.trust.guard.TrustGuard."""

    def refresh(self, targets: Sequence[str] = ()) -> TrustedView:
        """Blocks; raises a `DeviceError` by class."""

    def cached_view(self) -> TrustedView | None:
        """Without network."""


class OneAtATime:
    """A guard that the deployment's worker and the refresh thread may share."""

    def __init__(self, guard: Guard) -> None:
        self._guard = guard
        self._lock = threading.Lock()

    def refresh(self, targets: Sequence[str] = ()) -> TrustedView:
        """As the guard's; waits for a refresh that is under way."""
        with self._lock:
            return self._guard.refresh(targets)

    def cached_view(self) -> TrustedView | None:
        """As the guard's; its record is replaced by rename, so no lock is needed."""
        return self._guard.cached_view()


class Refreshed(msgspec.Struct, frozen=True):
    """What the verifier's own refresh came to; posted to the main loop."""

    view: TrustedView | None
    error: DeviceError | None = None


class Learned(msgspec.Struct, frozen=True):
    """What signed metadata says now; posted to the main loop after each refresh that succeeded,
    whether the routine, a message or a fetch caused it."""

    view: TrustedView


class Timing(msgspec.Struct, frozen=True):
    """When to refresh, in seconds."""

    every_s: float
    spread_s: float
    backoff: Backoff = Backoff(first_s=2.0, most_s=300.0)


class Verifier:
    """Owned by the main loop; only `_refresh` runs on another thread."""

    def __init__(
        self,
        guard: Guard,
        device: str,
        known_seq: Callable[[], int],
        post: Callable[[Refreshed], None],
        timing: Timing,
        now_s: float,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._guard = guard
        self._device = device
        self._known_seq = known_seq
        self._post = post
        self._timing = timing
        self._chance = chance
        self._thread: threading.Thread | None = None
        self._held_assignment: Received | None = None
        self._held_commands: deque[Received] = deque(maxlen=_MAX_HELD_COMMANDS)
        self._vain = 0
        """Refreshes in a row that helped nobody."""
        self._urgent_from = now_s
        self._next_routine = now_s + timing.spread_s * chance()
        view = guard.cached_view()
        self.versions: Mapping[str, int] = dict(view.versions) if view is not None else {}
        self.last_error = ""

    def open(self, received: Received) -> Assignment | Command | None:
        """The message, when it is genuine and in time; None when it is held for a refresh.

        Raises the `DeviceError` for which it is refused.
        """
        view = self._guard.cached_view()
        try:
            if view is None:
                raise Untrusted("no signed metadata yet")
            return self._check(received, view)
        except Untrusted:
            # The hub may have a newer key than the one that we know.
            self._hold(received)
            return None

    def tick(self, now_s: float) -> None:
        """Start a refresh when one is due."""
        if self._thread is not None:
            return
        urgent = self.holds_something and now_s >= self._urgent_from
        if urgent or now_s >= self._next_routine:
            self._thread = threading.Thread(target=self._refresh, name="refresh", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """Join a refresh that is under way; the metadata source has to be closed before."""
        if self._thread is not None:
            self._thread.join(_STOP_S)

    def refreshed(
        self, result: Refreshed, now_s: float
    ) -> tuple[list[Assignment | Command], list[tuple[Channel, DeviceError]]]:
        """What was held, with the refresh's view: what may be done now, and what is refused."""
        self._thread = None
        self.last_error = str(result.error) if result.error is not None else ""
        self._next_routine = now_s + self._routine_wait(result)
        if result.view is None:
            self._in_vain(now_s)
            return [], []
        good: list[Assignment | Command] = []
        refused: list[tuple[Channel, DeviceError]] = []
        for received in self._release():
            try:
                good.append(self._check(received, result.view))
            except DeviceError as error:
                refused.append((received.channel, error))
        if refused and not good:
            self._in_vain(now_s)
        else:
            self._vain, self._urgent_from = 0, now_s
        return good, refused

    def learned(self, view: TrustedView) -> None:
        """What the reported state tells: the hub counts on a device following these versions."""
        self.versions = dict(view.versions)

    @property
    def holds_something(self) -> bool:
        """Whether a message waits for a refresh."""
        return self._held_assignment is not None or bool(self._held_commands)

    def _check(self, received: Received, view: TrustedView) -> Assignment | Command:
        if received.channel is Channel.ASSIGNMENT:
            return check_assignment(received.payload, view, self._device, self._known_seq())
        return check_command(received.payload, view, self._device)

    def _hold(self, received: Received) -> None:
        if received.channel is Channel.ASSIGNMENT:
            self._held_assignment = received
        else:
            self._held_commands.append(received)

    def _release(self) -> list[Received]:
        held = [*([self._held_assignment] if self._held_assignment else []), *self._held_commands]
        self._held_assignment = None
        self._held_commands.clear()
        return held

    def _in_vain(self, now_s: float) -> None:
        bound = self._timing.backoff.bound(self._vain)
        self._urgent_from = now_s + bound * (0.5 + self._chance() / 2)
        self._vain += 1

    def _routine_wait(self, result: Refreshed) -> float:
        every = self._timing.every_s * (0.75 + self._chance() / 2)
        if result.view is not None:
            return every
        return min(every, max(60.0, self._timing.spread_s * self._chance()))

    def _refresh(self) -> None:
        try:
            self._post(Refreshed(self._guard.refresh()))
        except DeviceError as error:
            self._post(Refreshed(None, error))
        except Exception as error:  # noqa: BLE001 - the thread's boundary: the main loop must hear of every end
            self._post(Refreshed(None, DeviceError(f"refresh failed: {error!r}")))
