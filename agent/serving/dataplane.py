"""Which model serves each family, and how requests reach it. Everything inference passes here.

State is changed on the event loop alone, so a swap is one assignment between two requests: those
that came before finish on the model they began with, which is closed after its last; those that
come after go to the new one. The runtimes work in a few threads; what may wait for them is bounded,
and more is `Busy`. Adapters (OIP over HTTP, control) stand on top; this file knows none of them.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from agent.errors import DeviceError, Malformed, PolicyRefused
from agent.serving.counters import Counters
from agent.serving.errors import Busy, UnknownModel
from agent.serving.protocol import Activated, Candidate, ModelCounters, Probed, ServedModel
from agent.serving.served import Served, load_served
from contract.messages import MAX_FAMILIES

T = TypeVar("T")
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Limits:
    """How much may run and wait at once."""

    workers: int = 2
    waiting: int = 64
    threads_per_model: int = 1


class DataPlane:
    """The models in memory. Create and use it on one event loop."""

    def __init__(self, limits: Limits, clock: Callable[[], int]) -> None:
        self._limits = limits
        self._clock = clock
        self._serving: dict[str, Served] = {}
        self._candidates: dict[str, Served] = {}
        self._retired: dict[str, Counters] = {}
        self._draining: dict[int, Served] = {}
        self._admitted = 0
        self._pool = ThreadPoolExecutor(limits.workers, "infer")
        # Loading takes seconds and must not hold up an inference thread.
        self._loader = ThreadPoolExecutor(1, "load")

    async def run(self, family: str, version: str | None, work: Callable[[Served], T]) -> T:
        """Run `work` on the family's model in an inference thread; raises `RequestRefused`."""
        return await self._run_on(self.model(family, version), work)

    def model(self, family: str, version: str | None = None) -> Served:
        """The model that serves now; raises `UnknownModel`."""
        served = self._serving.get(family)
        if served is None:
            raise UnknownModel(f"no model '{family[:64]}' is served here")
        if version is not None and version != served.version:
            raise UnknownModel(
                f"'{family}' is served in version {served.version}, not {version[:64]}"
            )
        return served

    async def load(self, family: str, digest: str, directory: Path, variant: str) -> Candidate:
        """Load a model beside the serving one; what serves or waits already is not loaded again.

        Raises `DeviceError`s. Another candidate of the family gives way first: three models at
        once is more than a small board holds.
        """
        known = self._known(family, digest)
        if known is not None:
            return _candidate(known)
        if len(self._serving.keys() | self._candidates.keys() | {family}) > MAX_FAMILIES:
            raise PolicyRefused(f"more than {MAX_FAMILIES} families")
        await self._drop_candidate(family)
        loop = asyncio.get_running_loop()
        threads = self._limits.threads_per_model
        served = await loop.run_in_executor(
            self._loader, load_served, family, digest, directory, variant, threads
        )
        # Another load of the family may have ended meanwhile.
        await self._drop_candidate(family)
        self._candidates[family] = served
        return _candidate(served)

    def activate(self, family: str, digest: str, fallback: DeviceError | None = None) -> Activated:
        """Let the candidate serve from this request on; raises `Malformed` when there is none."""
        started = time.perf_counter()
        before = self._serving.get(family)
        if before is not None and before.digest == digest:
            before.fallback = fallback
            return Activated(digest=digest, changed=False, replaced=None, swap_ms=0.0)
        candidate = self._candidates.get(family)
        if candidate is None or candidate.digest != digest:
            raise Malformed(f"{family}: {digest[:16]}… is not loaded; load it first")
        candidate.since_ms = self._clock()
        candidate.fallback = fallback
        self._serving[family] = self._candidates.pop(family)
        if before is not None:
            self._retire(before)
        swap_ms = (time.perf_counter() - started) * 1e3
        replaced = before.digest if before else None
        return Activated(digest=digest, changed=True, replaced=replaced, swap_ms=swap_ms)

    async def unload(self, family: str, digest: str) -> None:
        """Forget this digest, waiting or serving; no error when it is neither."""
        candidate = self._candidates.get(family)
        if candidate is not None and candidate.digest == digest:
            await self._drop_candidate(family)
        served = self._serving.get(family)
        if served is not None and served.digest == digest:
            del self._serving[family]
            self._retire(served)

    async def probe(self, family: str, samples: int) -> Probed:
        """Run golden samples on the serving model; raises `RequestRefused`."""
        return await self._run_on(self.model(family), lambda served: served.probe(samples))

    def served(self) -> dict[str, ServedModel]:
        """What serves, by family."""
        return {family: _served_model(served) for family, served in self._serving.items()}

    def candidates(self) -> list[Candidate]:
        """What is loaded and waits."""
        return [_candidate(served) for served in self._candidates.values()]

    async def counters(self) -> tuple[dict[str, ModelCounters], dict[str, ModelCounters]]:
        """The counts of what serves, and the last counts of what served before."""
        serving = {family: served.counters for family, served in self._serving.items()}
        retired = dict(self._retired)
        loop = asyncio.get_running_loop()
        # A snapshot counts what waits in the drift ring: milliseconds for large images.
        now = await loop.run_in_executor(None, _snapshots, serving)
        return now, await loop.run_in_executor(None, _snapshots, retired)

    async def close(self) -> None:
        """Wait for running work, then give everything back."""
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(None, self._loader.shutdown)
        await loop.run_in_executor(None, self._pool.shutdown)
        models = [*self._serving.values(), *self._candidates.values(), *self._draining.values()]
        for served in models:
            served.close()

    async def _run_on(self, served: Served, work: Callable[[Served], T]) -> T:
        if self._admitted >= self._limits.workers + self._limits.waiting:
            raise Busy(f"{self._limits.waiting} requests wait already; try again")
        self._admitted += 1
        served.in_flight += 1
        try:
            answer: asyncio.Future[T] = asyncio.get_running_loop().create_future()
            self._pool.submit(_work, work, served, answer)
            return await answer
        finally:
            self._admitted -= 1
            served.in_flight -= 1
            if served.retired and served.in_flight == 0:
                self._close_soon(served)

    def _known(self, family: str, digest: str) -> Served | None:
        for models in (self._serving, self._candidates):
            found = models.get(family)
            if found is not None and found.digest == digest:
                return found
        return None

    async def _drop_candidate(self, family: str) -> None:
        served = self._candidates.pop(family, None)
        if served is not None:
            await asyncio.get_running_loop().run_in_executor(self._loader, served.close)

    def _retire(self, served: Served) -> None:
        served.retired = True
        self._retired[served.family] = served.counters
        self._draining[id(served)] = served
        if served.in_flight == 0:
            self._close_soon(served)

    def _close_soon(self, served: Served) -> None:
        """Close it off the event loop: freeing a model takes milliseconds."""
        self._draining.pop(id(served), None)
        closing = asyncio.get_running_loop().run_in_executor(self._loader, served.close)
        closing.add_done_callback(_log_failure)


def _work(work: Callable[[Served], T], served: Served, answer: asyncio.Future[T]) -> None:
    """In an inference thread: hand the answer over first, then count what takes time."""
    loop = answer.get_loop()
    try:
        loop.call_soon_threadsafe(_succeed, answer, work(served))
    except BaseException as error:  # noqa: BLE001 - whatever it is belongs to the one who asked
        loop.call_soon_threadsafe(_fail, answer, error)
    served.counters.settle()


def _succeed(answer: asyncio.Future[T], value: T) -> None:
    if not answer.done():  # else who asked is gone
        answer.set_result(value)


def _fail(answer: asyncio.Future[T], error: BaseException) -> None:
    if not answer.done():
        answer.set_exception(error)


def _snapshots(counters: dict[str, Counters]) -> dict[str, ModelCounters]:
    return {family: counted.snapshot() for family, counted in counters.items()}


def _log_failure(closing: asyncio.Future[None]) -> None:
    if not closing.cancelled() and closing.exception() is not None:
        _log.error("closing a model failed", exc_info=closing.exception())


def _candidate(served: Served) -> Candidate:
    return Candidate(
        family=served.family,
        digest=served.digest,
        target=served.installed.manifest.target,
        variant=served.installed.variant.name,
        load_ms=served.load_ms,
    )


def _served_model(served: Served) -> ServedModel:
    why = served.fallback
    return ServedModel(
        digest=served.digest,
        target=served.installed.manifest.target,
        variant=served.installed.variant.name,
        since_ms=served.since_ms,
        fallback=why is not None,
        reason=str(why)[:600] if why else "",
        fallback_cause=why.cause if why else None,
    )
