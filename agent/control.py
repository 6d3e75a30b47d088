"""The control process's main loop: the one thread that owns all state.

The link's thread, the deployment's worker and the refresh thread only post to the inbox; here their
messages are taken one by one, and here time passes for everything. Whatever fails in one message or
one round is logged and counted, and the loop goes on. Inference is not in this process.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

from agent.assembly import Parts
from agent.commands import Commands
from agent.deployment.worker import WorkerResult
from agent.errors import Crashed, DeviceError, DiskFull
from agent.link.inbox import Received
from agent.notify import READY, STOPPING, WATCHDOG, Notifier
from agent.renewal import Renewed
from agent.reporting import Reporter
from agent.resources import free_bytes
from agent.roots import follow_policy
from agent.server_watch import ServerWatch
from agent.snapshot import snapshot
from agent.status import remove_status, write_status
from agent.uplink import HEARD, Condition
from agent.verification import Learned, Refreshed
from contract.codec import decode
from contract.errors import ContractError
from contract.messages import Ack, Assignment, Command
from contract.topics import Channel

_LOG = logging.getLogger(__name__)
_Part = Callable[[float], None]


class Control:
    """Made and run on one thread; `request_stop` may be called from a signal handler."""

    def __init__(self, parts: Parts) -> None:
        self._p = parts
        self._stopping = threading.Event()
        self._notifier = Notifier(parts.settings.notify_socket)
        self._reporter = Reporter(parts, time.monotonic())
        self._commands = Commands(
            parts.outbox, parts.uplink, parts.deployer, self._report_now, parts.renewal.ask
        )
        self._server = ServerWatch(parts.server)
        self._started_ms = parts.speaker.stamper.clock()
        self._greeted = 0
        self._next_tick = 0.0
        self._next_heartbeat = 0.0

    def request_stop(self) -> None:
        """End `run` soon."""
        self._stopping.set()
        self._p.inbox.wake()

    def run(self) -> bool:
        """Until `request_stop`; everything that was started is stopped when it returns False.

        Only a defect ends it otherwise, and then the server goes on: it is not to blame.
        """
        try:
            self._start()
            while not self._stopping.is_set():
                for thing in self._p.inbox.take(self._wait_s()):
                    self._handle(thing)
                self._round(time.monotonic())
        finally:
            self._finish()
        return False

    def _start(self) -> None:
        self._server.start()
        self._attempt(self._know_roots, time.monotonic())
        self._p.deployer.resume()
        self._p.connection.start()
        self._notifier.tell(READY)

    def _finish(self) -> None:
        self._notifier.tell(STOPPING)
        # The hub hears it first: the worker may need a while to end what it is at.
        self._p.metadata.close()
        self._p.connection.stop(self._p.speaker.death())
        self._p.deployer.stop()
        self._p.verifier.stop()
        self._p.renewal.stop()
        if self._stopping.is_set():
            self._stop_server()
        remove_status(self._p.settings.state_dir)
        self._p.outbox.close()
        self._p.journal.close()

    def _stop_server(self) -> None:
        try:
            self._server.stop()
        except Crashed as error:
            _LOG.error("%s", error)

    def _wait_s(self) -> float:
        return min(max(self._next_tick - time.monotonic(), 0.0), 1.0)

    # --- what comes in ---------------------------------------------------------------------------

    def _handle(self, thing: object) -> None:
        """One message or result; a failure concerns it alone."""
        try:
            if isinstance(thing, Received):
                self._receive(thing)
            elif isinstance(thing, WorkerResult):
                self._p.deployer.post(thing)
            elif isinstance(thing, Learned):
                self._learned(thing)
            elif isinstance(thing, Refreshed):
                self._refreshed(thing)
            elif isinstance(thing, Renewed):
                self._renewed(thing)
        except DiskFull as error:
            _LOG.warning("%s", error)
        except Exception:  # noqa: BLE001 - the loop's boundary: no message may end the device
            _LOG.exception("a defect: %s could not be handled", type(thing).__name__)

    def _receive(self, received: Received) -> None:
        try:
            if received.channel is Channel.ACK:
                ack = decode(Ack, received.payload)
                if ack.device == self._p.identity.device:
                    self._p.uplink.acknowledged(ack, time.monotonic())
                return
            message = self._p.verifier.open(received)
        except (ContractError, DeviceError) as error:
            self._refuse(received.channel, error)
            return
        if message is not None:
            self._obey(message)

    def _refreshed(self, result: Refreshed) -> None:
        good, refused = self._p.verifier.refreshed(result, time.monotonic())
        for channel, error in refused:
            self._refuse(channel, error)
        for message in good:
            self._obey(message)

    def _learned(self, learned: Learned) -> None:
        """Roots first: a hub that hears of these versions counts on them."""
        if follow_policy(self._p.identity, learned.view):
            # The connection that is there was checked against other roots than these.
            self._p.connection.renew()
        self._p.verifier.learned(learned.view)

    def _renewed(self, result: Renewed) -> None:
        if self._p.renewal.renewed(result, time.monotonic()):
            self._p.connection.renew()

    def _obey(self, message: Assignment | Command) -> None:
        if isinstance(message, Assignment):
            self._p.deployer.assigned(message)
        else:
            self._commands.carry_out(message)

    def _refuse(self, channel: Channel, error: Exception) -> None:
        why = f"{type(error).__name__}: {error}"
        self._p.rejects.count(self._p.speaker.topic(channel), why)

    # --- the passing of time ---------------------------------------------------------------------

    def _round(self, now_s: float) -> None:
        """What is due; each part's failure is its own."""
        self._attempt(self._look_at_connection, now_s)
        if now_s >= self._next_tick:
            self._next_tick = now_s + self._p.settings.tick_seconds
            self._attempt(self._tick, now_s)
        self._attempt(self._tell_state, now_s)
        self._attempt(self._pump, now_s)
        self._notifier.tell(WATCHDOG)

    def _attempt(self, part: _Part, now_s: float) -> None:
        try:
            part(now_s)
        except DiskFull as error:
            _LOG.warning("%s", error)
        except Exception:  # noqa: BLE001 - the loop's boundary: the other parts must go on
            _LOG.exception("a defect in %s", getattr(part, "__name__", part))

    def _look_at_connection(self, _now_s: float) -> None:
        generation = self._p.connection.generation
        if generation == self._greeted or not self._p.connection.connected:
            return
        if self._p.uplink.greet():
            self._greeted = generation
            _LOG.info("connected; listening on %s", ", ".join(c.value for c in HEARD))

    def _know_roots(self, _now_s: float) -> None:
        """Power may have gone after a refresh was saved and before its roots were."""
        view = self._p.guard.cached_view()
        if view is not None:
            follow_policy(self._p.identity, view)

    def _tick(self, now_s: float) -> None:
        self._server.tick()
        self._p.deployer.tick(self._p.guard.now_ms())
        self._p.verifier.tick(now_s)
        self._p.renewal.tick(now_s, self._p.guard.now_ms(), self._p.connection.connected)
        if self._reporter.is_due(now_s):
            self._report_now()
        self._write_status()

    def _tell_state(self, now_s: float) -> None:
        if self._greeted != self._p.connection.generation or not self._p.connection.connected:
            return
        heartbeat = now_s >= self._next_heartbeat
        if self._say_state(again=heartbeat) and heartbeat:
            self._next_heartbeat = now_s + self._p.settings.heartbeat_seconds

    def _say_state(self, again: bool) -> bool:
        return self._p.uplink.tell_state(
            self.condition(),
            free_bytes(self._p.settings.state_dir),
            self._p.settings.heartbeat_seconds,
            again=again,
        )

    def condition(self) -> Condition:
        """What the reported state tells."""
        return Condition(
            assignment_seq=self._p.journal.assignment_seq(),
            families=self._p.deployer.family_states(),
            tuf_versions=self._p.verifier.versions,
        )

    def _pump(self, now_s: float) -> None:
        if self._greeted == self._p.connection.generation:
            self._p.uplink.pump(now_s)

    def _report_now(self) -> None:
        self._reporter.report(time.monotonic())
        if self._p.connection.connected:
            # Its counts of good inferences belong to the report's window.
            self._say_state(again=True)

    def _write_status(self) -> None:
        status = snapshot(self._p, self.condition(), self._server, self._started_ms)
        try:
            write_status(self._p.settings.state_dir, status)
        except OSError as error:
            _LOG.debug("status.json: %s", error)
