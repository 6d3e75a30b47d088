"""The ACTIVATING, RESTORING and settling effects: serving.json and the server, always in an order
that leaves a present, checked release in service.

Forward: load first (a candidate that cannot be loaded changes nothing), then serving.json, then the
switch. Back: serving.json first, so that even a server that dies now comes up with the right
release. Needs no network. Runs on the switching thread.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from agent.deployment import events as on
from agent.deployment.baseline import take_baseline
from agent.deployment.ports import Checkpoint, InferenceServer
from agent.deployment.results import attempt_of, candidate_of
from agent.deployment.state import Deployment, Serving, Stage
from agent.errors import Crashed, DeviceError
from agent.serving.protocol import ServerStatus
from agent.store.layout import Layout
from agent.store.serving_file import ServingEntry, set_family

T = TypeVar("T")

SERVER_PATIENCE_S = 45.0
"""How long to wait for a server that is being started again."""
ASK_EVERY_S = 0.25


@dataclass(frozen=True)
class SwitchParts:
    """What a switch works with."""

    layout: Layout
    server: InferenceServer
    checkpoint: Checkpoint
    patience_s: float = SERVER_PATIENCE_S
    sleep: Callable[[float], None] = time.sleep
    stopping: Callable[[], bool] = lambda: False
    """Whether this process is about to end: then nothing is waited for."""


def activate(parts: SwitchParts, state: Deployment) -> on.Activated:
    """Make the candidate answer; safe to repeat. Raises a `DeviceError` by its class."""
    candidate = candidate_of(state)
    status = _patiently(parts, parts.server.status)
    baseline = take_baseline(parts.layout, parts.server, state.family, candidate, state.serving)
    figures = {}
    already = serves(status, state.family, candidate.digest)
    if not already:
        figures["load_ms"] = _load(parts, state.family, candidate)
    parts.checkpoint("activate:loaded")
    behind = [s for s in (state.serving, *state.fallbacks) if s and s.digest != candidate.digest]
    entry = _entry(parts.layout, state.family, candidate, behind, probation=True)
    set_family(parts.layout.state_dir, state.family, entry)
    parts.checkpoint("activate:written")
    if not already:
        figures["swap_ms"] = parts.server.activate(state.family, candidate.digest).swap_ms
    parts.checkpoint("activate:switched")
    return on.Activated(baseline=baseline, figures=figures)


def restore(parts: SwitchParts, state: Deployment) -> on.Restored:
    """Make `state.serving` answer again, or nothing when it is None; safe to repeat."""
    started = time.monotonic()
    write_entry(parts, state)
    parts.checkpoint("restore:written")
    _patiently(parts, lambda: _switch_back(parts, state))
    parts.checkpoint("restore:switched")
    return on.Restored(figures={"restore_ms": (time.monotonic() - started) * 1000})


def _switch_back(parts: SwitchParts, state: Deployment) -> None:
    """A server that died and came back has read serving.json, and serves the right one already."""
    status, serving = parts.server.status(), state.serving
    if serving is not None:
        if not serves(status, state.family, serving.digest):
            _load(parts, state.family, serving)
        # Also where it serves already, as a fallback: from now on it is what is wanted.
        parts.server.activate(state.family, serving.digest)
    candidate = attempt_of(state).wanted.digest
    if serving is None or serving.digest != candidate:
        parts.server.unload(state.family, candidate)


def load_beside(parts: SwitchParts, state: Deployment) -> None:
    """Load the candidate where it answers nobody."""
    _patiently(parts, parts.server.status)
    _load(parts, state.family, candidate_of(state))


def settle(parts: SwitchParts, state: Deployment) -> None:
    """What serves is written down, and the server forgets a candidate that nobody wants.

    Raises `DiskFull` when serving.json cannot be written.
    """
    write_entry(parts, state)
    parts.checkpoint("settle:written")
    with contextlib.suppress(DeviceError):  # an absent server has no candidate to forget
        for candidate in parts.server.status().candidates:
            if candidate.family == state.family:
                parts.server.unload(candidate.family, candidate.digest)


def write_entry(parts: SwitchParts, state: Deployment) -> None:
    """Make serving.json say what the journal says about this family."""
    entry = None
    if state.serving is not None:
        entry = _entry(
            parts.layout,
            state.family,
            state.serving,
            list(state.fallbacks),
            probation=state.stage is Stage.PROBATION,
        )
    set_family(parts.layout.state_dir, state.family, entry)


def pins(state: Deployment) -> list[str]:
    """The releases of a family that must stay on disk."""
    kept = [s.digest for s in (state.serving, *state.fallbacks) if s is not None]
    attempts = (state.attempt, state.queued)
    return kept + [attempt.wanted.digest for attempt in attempts if attempt is not None]


def serves(status: ServerStatus, family: str, digest: str) -> bool:
    """Whether this digest answers the family's requests."""
    served = status.families.get(family)
    return served is not None and served.digest == digest


def _load(parts: SwitchParts, family: str, serving: Serving) -> float:
    directory = parts.layout.installed(family, serving.digest).absolute()
    return parts.server.load(family, serving.digest, directory, serving.variant).load_ms


def _entry(
    layout: Layout, family: str, serving: Serving, behind: list[Serving], probation: bool
) -> ServingEntry:
    """One release deep: the server falls back once, and further only as this process decides."""
    previous = None
    if behind:
        previous = _entry(layout, family, behind[0], [], probation=False)
    return ServingEntry(
        digest=serving.digest,
        directory=str(layout.installed(family, serving.digest).absolute()),
        variant=serving.variant,
        target=serving.target,
        previous=previous,
        probation=probation,
    )


def _patiently(parts: SwitchParts, work: Callable[[], T]) -> T:
    """Do it; a server that is being started again gets some time. Raises `Crashed` after that."""
    until = time.monotonic() + parts.patience_s
    while True:
        try:
            return work()
        except Crashed:
            if time.monotonic() >= until or parts.stopping():
                raise
        parts.sleep(ASK_EVERY_S)
