"""Hands effects to the workers and can stop them; what comes back names the run it belongs to.

Two threads: one prepares (fetch, verify, trial, tidy), one switches what serves, so that a slow
download of one family never delays another's way back. Each keeps the order of what it is given.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection

import msgspec

from agent.deployment import effects as do
from agent.deployment import events as on
from agent.deployment.performing import Job, Tools, perform
from agent.deployment.ports import Checkpoint
from agent.deployment.state import Deployment
from agent.deployment.worker import Runner, Worker, WorkerResult

Inbox = Callable[[WorkerResult], None]


class Dispatch:
    """Owned by the main loop; the jobs themselves run on the worker threads."""

    def __init__(
        self, tools: Tools, runner: Runner | None, inbox: Inbox, checkpoint: Checkpoint
    ) -> None:
        """With a `runner`, everything runs there, in one order (tests)."""
        self._tools = tools
        self._preparing: Runner = runner or Worker("preparing")
        self._switching: Runner = runner or Worker("switching")
        self._inbox = inbox
        self._checkpoint = checkpoint
        self._cancels: dict[str, threading.Event] = {}

    def send(self, state: Deployment, effect: do.Effect, downloads: Collection[str]) -> None:
        """Let a worker carry out an effect for the deployment as it stands now."""
        cancel = self._cancels[state.family] = threading.Event()
        result = WorkerResult(family=state.family, run=state.run)
        job = Job(
            state=state,
            effect=effect,
            cancelled=cancel.is_set,
            progressed=lambda: self._inbox(_with(result, on.Progressed())),
            downloads=downloads,
        )

        def work() -> None:
            event = perform(self._tools, job)
            self._checkpoint(f"done:{type(effect).__name__}")
            if event is not None:
                self._inbox(_with(result, event))

        switches = isinstance(effect, do.SwitchEffect)
        (self._switching if switches else self._preparing).submit(work)

    def call(self, work: Callable[[], WorkerResult]) -> None:
        """Ask the server something on the switching thread; the result goes to the loop."""
        self._switching.submit(lambda: self._inbox(work()))

    def cancel(self, family: str) -> None:
        """Stop the family's newest effect; what it has stored stays good."""
        cancel = self._cancels.pop(family, None)
        if cancel is not None:
            cancel.set()

    def stop(self) -> None:
        """Stop everything and wait for the workers."""
        for family in list(self._cancels):
            self.cancel(family)
        self._preparing.stop()
        self._switching.stop()


def _with(result: WorkerResult, event: on.Event) -> WorkerResult:
    return msgspec.structs.replace(result, event=event)
