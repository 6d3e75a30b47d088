"""The inference server without its process: the real data plane and control verbs on one thread.

What is left out is the sockets; `ServerClient`'s own code speaks to `ControlApi` all the same.
And a client that never stops asking.
"""

from __future__ import annotations

import asyncio
import secrets
import threading
import time
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from agent.serving.boot import serve_again
from agent.serving.client import ServerClient
from agent.serving.control_api import ControlApi, Life
from agent.serving.crashes import CrashNotes
from agent.serving.dataplane import DataPlane, Limits
from agent.serving.protocol import control_socket

T = TypeVar("T")


class LocalServer(ServerClient):
    """Boots from serving.json as the process does; `stop` ends its thread."""

    def __init__(self, state_dir: Path) -> None:
        super().__init__(control_socket(state_dir))
        (state_dir / "run").mkdir(parents=True, exist_ok=True)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._plane = DataPlane(Limits(), lambda: time.time_ns() // 1_000_000)
        crashes = CrashNotes(state_dir / "run" / "boots.json")
        life = Life(secrets.token_hex(16), 0, {})
        self._api = ControlApi(self._plane, crashes, life)
        life.unserved.update(self._run(serve_again(self._plane, crashes, state_dir)))

    def infer(self, family: str, rows: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """What the family's model answers, as a request would reach it."""

        def ask(served: Any) -> npt.NDArray[np.float32]:
            return np.asarray(served.infer({"x": rows})["y"], dtype=np.float32)

        return self._run(self._plane.run(family, None, ask))

    def stop(self) -> None:
        """Give the models back and join the thread."""
        self._run(self._plane.close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    def _exchange(self, method: str, path: str, body: bytes, timeout_s: float) -> tuple[int, bytes]:
        reply = self._run(self._api.answer(method, path, body), timeout_s)
        return reply.status, reply.body

    def _run(self, work: Coroutine[Any, Any, T], timeout_s: float = 30.0) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(timeout_s)


class Asking:
    """Asks without a pause, from a thread of its own, until the `with` block is left."""

    def __init__(self, server: LocalServer, family: str, rows: npt.NDArray[np.float32]) -> None:
        self._server, self._family, self._rows = server, family, rows
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._ask, daemon=True)
        self.answers: list[bytes] = []
        self.failures: list[Exception] = []

    def __enter__(self) -> Asking:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        self._thread.join(10)

    def goes_on(self) -> bytes:
        """Whoever asks now is answered; that answer."""
        asked = len(self.answers) + 1  # the one under way may be of before
        deadline = time.monotonic() + 10
        while len(self.answers) <= asked and not self.failures:
            assert time.monotonic() < deadline, "no answer came"
            time.sleep(0.005)
        assert not self.failures, self.failures[0]
        return self.answers[-1]

    def _ask(self) -> None:
        while not self._stopped.wait(0.005):
            try:
                found = self._server.infer(self._family, self._rows)
            except Exception as error:  # noqa: BLE001 - whatever it is, it is what a client sees
                self.failures.append(error)
                return
            self.answers.append(bytes(found.round(4).tobytes()))
