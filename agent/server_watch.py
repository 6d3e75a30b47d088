"""Keeps the inference server running, when that is the agent's task and not systemd's.

A server that cannot be started is logged and tried again; it never stops the control process.
"""

from __future__ import annotations

import logging

from agent.errors import Crashed
from agent.serving.process import ServerProcess

_LOG = logging.getLogger(__name__)
_FIRST_ANSWER_S = 10.0


class ServerWatch:
    """`process` is None when the server has a unit of its own."""

    def __init__(self, process: ServerProcess | None) -> None:
        self._process = process

    def start(self) -> None:
        """Attach to a running server, or start one and wait a little for its answer."""
        if self._process is None:
            return
        try:
            self._process.start(_FIRST_ANSWER_S)
        except (Crashed, OSError) as error:
            _LOG.error("the inference server: %s; trying again", error)

    def tick(self) -> None:
        """Start it again when it is gone."""
        if self._process is None:
            return
        try:
            self._process.tick()
        except OSError as error:
            _LOG.error("the inference server could not be started: %s", error)

    def stop(self) -> None:
        """Raises `Crashed` when it survives even SIGKILL."""
        if self._process is not None:
            self._process.stop()

    @property
    def state(self) -> str:
        """In one word or two, for the status."""
        if self._process is None:
            return "its own unit's"
        return "running" if self._process.alive() else f"down: {self._process.last_end}"

    @property
    def pid(self) -> int | None:
        """None when it does not run, or is not ours."""
        return None if self._process is None else self._process.pid

    @property
    def restarts(self) -> int:
        """How often it was started again."""
        return 0 if self._process is None else self._process.restarts
