"""`outrider hub serve`: the running hub with its rollout engine and its HTTPS API, until a signal.

The API has the main thread. systemd hears READY when devices and operators can connect, and the
watchdog is fed only while every thread does its work.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import signal
import socket
import ssl
import threading
import time
from collections.abc import Callable, Generator
from pathlib import Path

import msgspec
import uvicorn

from fleet.api import create_app
from fleet.assembly import run_hub
from fleet.ca import Authority
from fleet.config import HubConfig, read_config
from fleet.errors import PortInUse
from fleet.files import write_whole
from fleet.notify import notify
from fleet.ports import HubServices
from fleet.rollouts.engine import tick
from fleet.settings import ProcessSettings, read_settings
from fleet.workers import Worker

_LOG = logging.getLogger(__name__)
TICK_S = 1.0
REST = 3.0
"""The engine rests this many times as long as it worked, so that a large fleet's rollouts leave the
processor and the database to devices and operators."""
STUCK_S = 300.0
"""A thread that ends no step for this long is stuck: then systemd is to start the hub again."""
GRACE_S = 5
READY_FILE = "hub.json"


class ReadyFile(msgspec.Struct, frozen=True):
    """`run/hub.json`: there while the hub takes requests."""

    pid: int
    api_port: int
    broker_port: int


def serve(directory: Path, *, external_broker: bool = False) -> None:
    """Run the hub until SIGTERM or SIGINT, then stop everything in order.

    Raises what `fleet.assembly.run_hub` raises, and `PortInUse` for the API.
    """
    settings = read_settings()
    config = read_config(directory)
    _log_to_stderr()
    ready = directory / "run" / READY_FILE
    with (
        _interrupts(),
        # First of all: it holds the lock that tells whether another hub runs here.
        run_hub(directory, external_broker=external_broker) as hub,
        contextlib.closing(_listen(config)) as listener,
        _engine(hub.services) as engine,
    ):
        ready.unlink(missing_ok=True)  # of a hub that was killed
        workers = (*hub.workers, engine)
        server = ApiServer(
            _uvicorn_config(directory, hub.services),
            lambda: _say_ready(ready, config, settings),
            _feeder(settings, workers),
            ApiCertificate(directory),
        )
        try:
            with _stops_on_signals(server):
                server.run(sockets=[listener])
        finally:
            ready.unlink(missing_ok=True)
            notify(settings.notify_socket, "STOPPING=1")


class ApiCertificate:
    """Has the API show its certificate of now; only new connections see it, and none is dropped.

    On the thread that makes the connections: OpenSSL guards a context's certificate with no lock.
    """

    def __init__(self, directory: Path) -> None:
        self._certificate, self._key = Authority(directory / "ca").pair("api")
        self._loaded = self._read()

    def refresh(self, context: ssl.SSLContext) -> None:
        """Take up a certificate that was written since."""
        present = self._read()
        if present == self._loaded:
            return
        try:
            # First elsewhere: one that does not fit its key would leave the API without any.
            ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(self._certificate, self._key)
            context.load_cert_chain(self._certificate, self._key)
        except (OSError, ValueError) as error:
            _LOG.warning("the API's new certificate cannot be used yet: %s", error)
            return
        self._loaded = present
        _LOG.info("the API shows a new certificate")

    def _read(self) -> bytes:
        try:
            return self._certificate.read_bytes()
        except OSError:
            return b""


class ApiServer(uvicorn.Server):
    """uvicorn that says when it is ready, feeds the watchdog, and leaves signals to `serve`."""

    def __init__(
        self,
        config: uvicorn.Config,
        ready: Callable[[], None],
        feed: Callable[[], None],
        certificate: ApiCertificate,
    ) -> None:
        super().__init__(config)
        self._ready = ready
        self._feed = feed
        self._certificate = certificate

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Called by uvicorn once it is about to serve."""
        await super().startup(sockets)
        self._ready()

    async def on_tick(self, counter: int) -> bool:
        """Called by uvicorn ten times a second: the main thread lives."""
        if counter % 10 == 0:
            self._feed()
            if self.config.ssl is not None:
                self._certificate.refresh(self.config.ssl)
        return await super().on_tick(counter)

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        """uvicorn would raise the signal again at its end, before the other parts are stopped."""
        yield


def _uvicorn_config(directory: Path, services: HubServices) -> uvicorn.Config:
    certificate, key = Authority(directory / "ca").pair("api")
    return uvicorn.Config(
        create_app(services),
        ssl_certfile=str(certificate),
        ssl_keyfile=str(key),
        http="httptools",
        loop="asyncio",
        ws="none",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=GRACE_S,
    )


def _listen(config: HubConfig) -> socket.socket:
    family = socket.AF_INET6 if ":" in config.api_host else socket.AF_INET
    listener = socket.socket(family)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((config.api_host, config.api_port))
        listener.listen(128)
    except OSError as error:
        listener.close()
        what = "is in use" if error.errno == errno.EADDRINUSE else str(error.strerror)
        raise PortInUse(
            f"the API's port {config.api_port} on {config.api_host} {what}:"
            " stop what uses it, or change api_port in hub.json"
        ) from error
    return listener


@contextlib.contextmanager
def _engine(services: HubServices) -> Generator[Worker, None, None]:
    """The thread that moves rollouts on, once a second or as often as the fleet's size allows."""
    stopping = threading.Event()

    def step() -> None:
        started = time.monotonic()
        tick(services, services.clock())
        stopping.wait(max(TICK_S, REST * (time.monotonic() - started)))

    worker = Worker("engine", step, stopping.set)
    worker.start()
    try:
        yield worker
    finally:
        worker.stop()


@contextlib.contextmanager
def _interrupts() -> Generator[None, None, None]:
    """Before and after the API runs, SIGTERM acts as Ctrl-C does: all that was started is ended."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    except KeyboardInterrupt:
        return
    finally:
        signal.signal(signal.SIGTERM, before)


@contextlib.contextmanager
def _stops_on_signals(server: uvicorn.Server) -> Generator[None, None, None]:
    def stop(_number: int, _frame: object) -> None:
        server.should_exit = True

    before = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _log_to_stderr() -> None:
    """For the journal of systemd, which adds the time. Does nothing where logging is set up."""
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    logging.getLogger("alembic").setLevel(logging.WARNING)  # it tells of every plug-in
    # It names every key that need not have signed, which is the normal state of a root that two of
    # three hold. What is refused is an error, and said here by its name.
    logging.getLogger("tuf.api").setLevel(logging.WARNING)
    web = logging.getLogger("uvicorn.error")
    web.setLevel(logging.WARNING)  # we say ourselves when the API is ready
    web.addFilter(_plainly_named)


def _plainly_named(record: logging.LogRecord) -> bool:
    """uvicorn calls all its messages errors; what it lets through is about the API."""
    record.name = "fleet.api"
    return True


def _say_ready(path: Path, config: HubConfig, settings: ProcessSettings) -> None:
    ready = ReadyFile(os.getpid(), config.api_port, config.broker_port)
    write_whole(path, msgspec.json.encode(ready))
    _LOG.info("serving %s, broker %d; Ctrl-C stops it", config.api_url, config.broker_port)
    notify(settings.notify_socket, "READY=1")


def _feeder(settings: ProcessSettings, workers: tuple[Worker, ...]) -> Callable[[], None]:
    """systemd wants to hear more often than `watchdog_s`; once a second is plenty."""

    def feed() -> None:
        if settings.watchdog_s and all(worker.healthy(STUCK_S) for worker in workers):
            notify(settings.notify_socket, "WATCHDOG=1")

    return feed
