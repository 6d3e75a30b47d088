"""What is left when the journal cannot be used: keep inference running, and update nothing.

The journal holds the floors that keep old releases out, so it is never replaced by an empty one; a
person has to look. Until then this loop watches the server and says in status.json what is wrong.
What may pass by itself, such as a full disk, is tried again every minute; the server stays up.
"""

from __future__ import annotations

import logging
import os
import threading
import time

from agent.assembly import agent_version, launch_of
from agent.errors import Crashed
from agent.identity import Identity
from agent.notify import READY, STOPPING, WATCHDOG, Notifier
from agent.server_watch import ServerWatch
from agent.serving.process import ServerProcess
from agent.settings import AgentSettings
from agent.snapshot import http_port
from agent.stamps import wall_clock_ms
from agent.status import AgentStatus, remove_status, write_status

_LOG = logging.getLogger(__name__)
ROUND_S = 10.0
"""At most this long between two signs of life to the service manager, whatever the settings say."""
RETRY_S = 60.0


class ServeOnly:
    """`request_stop` may be called from a signal handler."""

    def __init__(
        self, settings: AgentSettings, identity: Identity, why: str, retry_s: float | None = None
    ) -> None:
        """`retry_s`: end after so long without being asked to; None when only a person can help."""
        self._settings = settings
        self._identity = identity
        self._why = why
        self._retry_s = retry_s
        self._stopping = threading.Event()
        self._notifier = Notifier(settings.notify_socket)
        self._started_ms = wall_clock_ms()
        self._server = ServerWatch(ServerProcess(launch_of(settings)) if settings.server else None)

    def request_stop(self) -> None:
        """End `run` soon."""
        self._stopping.set()

    def run(self) -> bool:
        """Until `request_stop`; True when it is time to try again, with the server left running."""
        _LOG.error("serving only, no updates: %s", self._why)
        self._server.start()
        self._notifier.tell(READY, f"STATUS=serving only: {self._why}")
        until = None if self._retry_s is None else time.monotonic() + self._retry_s
        while not self._stopping.wait(min(self._settings.tick_seconds, ROUND_S)):
            if until is not None and time.monotonic() >= until:
                return True
            self._server.tick()
            self._say()
            self._notifier.tell(WATCHDOG)
        self._notifier.tell(STOPPING)
        try:
            self._server.stop()
        except Crashed as error:
            _LOG.error("%s", error)
        remove_status(self._settings.state_dir)
        return False

    def _say(self) -> None:
        record = self._identity.record
        status = AgentStatus(
            device=record.device,
            agent=agent_version(),
            pid=os.getpid(),
            at_ms=wall_clock_ms(),
            started_at_ms=self._started_ms,
            clock_trusted=wall_clock_ms() >= record.floor_ms,
            hub_url=record.hub_url,
            broker=f"{record.broker_host}:{record.broker_port}",
            connected=False,
            server=self._server.state,
            server_pid=self._server.pid,
            server_restarts=self._server.restarts,
            http_port=http_port(self._settings.state_dir),
            updates=f"off: {self._why}",
        )
        try:
            write_status(self._settings.state_dir, status)
        except OSError as error:
            _LOG.debug("status.json: %s", error)
