"""Runs the hub's private Mosquitto: starts it, waits until it answers, restarts it when it dies.

Refuses to guess: no Mosquitto, a busy port or a broken configuration is one clear error. The child
is bound to this process and dies with it, however this process dies.
"""

from __future__ import annotations

import contextlib
import logging
import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

from fleet.broker_files import (
    DIRECTORY,
    BrokerFiles,
    access_rules,
    configuration,
    write_identity,
)
from fleet.ca import Authority
from fleet.config import HubConfig
from fleet.crl import crl_pem
from fleet.errors import BrokerFailed, BrokerMissing, FleetError, PortInUse
from fleet.files import write_whole

_LOG = logging.getLogger(__name__)
START_WAIT_S = 10.0
STOP_WAIT_S = 5.0
BACKOFF_S = (0.2, 30.0)
MAX_LOG_BYTES = 8 * 1024 * 1024
"""Strangers can make Mosquitto log: beyond this its words become `mosquitto.log.1`."""
_SEARCH = ("/usr/sbin", "/usr/local/sbin", "/opt/homebrew/sbin")
_ANY = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - compared with, not listened on

# PR_SET_PDEATHSIG: the kernel kills the child when the thread that started it is gone. Set in a
# fresh interpreter that then becomes Mosquitto, since code between fork and exec is not safe here.
# Each device takes a file descriptor, and the usual soft limit of 1,024 would end a fleet there.
_BOUND_CHILD = """
import ctypes, os, resource, signal, sys
ctypes.CDLL(None).prctl(1, signal.SIGKILL)
most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
if os.getppid() != int(sys.argv[1]):
    sys.exit(1)
os.execv(sys.argv[2], sys.argv[2:])
"""


def find_mosquitto() -> Path:
    """The broker's program; raises `BrokerMissing`."""
    found = shutil.which("mosquitto")
    for directory in _SEARCH:
        found = found or shutil.which("mosquitto", path=directory)
    if found is None:
        raise BrokerMissing("mosquitto is not installed: run `apt-get install mosquitto`")
    return Path(found)


def write_broker_files(directory: Path, config: HubConfig) -> BrokerFiles:
    """Write the configuration and the ACL of the hub at `directory`, and say where they are."""
    files = BrokerFiles(
        directory=directory / DIRECTORY,
        bind=config.broker_bind,
        port=config.broker_port,
        user=pwd.getpwuid(os.geteuid()).pw_name,
    )
    files.directory.mkdir(mode=0o700, exist_ok=True)
    write_whole(files.acl, access_rules().encode())
    authority = Authority(directory / "ca")
    if not files.revoked.exists():  # the broker does not start without one
        write_whole(files.revoked, crl_pem(authority.signer(), (), time.time_ns() // 1_000_000))
    write_identity(files.directory, authority)
    write_whole(files.configuration, configuration(files).encode())
    return files


def local_address(bind: str) -> str:
    """Where this machine reaches something that listens on `bind`."""
    return _ANY.get(bind, bind)


def require_free_port(bind: str, port: int, what: str) -> None:
    """Raise `PortInUse` when somebody else listens there."""
    family = socket.AF_INET6 if ":" in bind else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((bind, port))
        except OSError as error:
            raise PortInUse(
                f"{what} cannot listen on {bind} port {port}: {error.strerror}. Stop what uses it,"
                " or change the port in hub.json"
            ) from error


class BrokerChild:
    """One Mosquitto and the thread that keeps it alive. `start`, then `stop`."""

    def __init__(self, files: BrokerFiles) -> None:
        """Starts nothing yet."""
        self._files = files
        self._stop = threading.Event()
        self._again, self._unread = threading.Event(), threading.Event()
        self._first = threading.Event()
        self._failure: Exception | None = None
        self._child: subprocess.Popen[bytes] | None = None
        self._program = Path()
        self._thread = threading.Thread(target=self._supervise, name="broker", daemon=True)

    @property
    def pid(self) -> int | None:
        """The child's process id while it runs."""
        child = self._child
        return child.pid if child is not None and child.poll() is None else None

    def start(self) -> None:
        """Returns once the broker answers; raises `BrokerMissing`, `PortInUse`, `BrokerFailed`."""
        self._program = find_mosquitto()
        require_free_port(self._files.bind, self._files.port, "the broker")
        self._thread.start()
        self._first.wait()
        if self._failure is not None:
            self._thread.join()
            if isinstance(self._failure, FleetError):
                raise self._failure
            raise BrokerFailed(f"the broker cannot be started: {self._failure}") from self._failure

    def reload(self) -> None:
        """Make it read certificates, lists and the ACL again, soon; nobody is cut off."""
        self._unread.set()

    def restart(self) -> None:
        """End the child and start it again, soon: it forgets what it held, and whom it believed."""
        self._again.set()

    def stop(self) -> None:
        """Stop the child and the thread; returns when both are gone."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()

    def _supervise(self) -> None:
        """Started and ended by one thread: the kernel ties the child to it."""
        delay = BACKOFF_S[0]
        while not self._stop.is_set():
            started = time.monotonic()
            try:
                with self._files.log.open("ab") as log:
                    self._run(log.fileno())
            except Exception as error:  # noqa: BLE001 - the thread's boundary; kept for start()
                if not self._first.is_set():
                    self._failure = error
                    self._first.set()
                    return
                _LOG.error("the broker cannot be started again: %s", error)
            if time.monotonic() - started > BACKOFF_S[1]:
                delay = BACKOFF_S[0]
            if not self._stop.wait(delay):
                delay = min(delay * 2, BACKOFF_S[1])

    def _run(self, log: int) -> None:
        """One life of the broker: returns when it ended or was told to."""
        command = [sys.executable, "-I", "-S", "-c", _BOUND_CHILD, str(os.getpid())]
        command += [str(self._program), "-c", str(self._files.configuration)]
        # Before it reads its files: who asks from here on means this one.
        self._again.clear()
        self._unread.clear()
        child = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
        )
        self._child = child
        try:
            self._wait_until_it_answers(child)
            self._first.set()
            while not self._stop.is_set():
                if self._again.is_set():
                    _LOG.info("starting the broker again, as was asked")
                    return
                if self._unread.is_set() and _catches_hangup(child.pid):
                    self._unread.clear()
                    child.send_signal(signal.SIGHUP)
                try:
                    code = child.wait(0.1)
                except subprocess.TimeoutExpired:
                    bound_log(self._files.log)
                    continue
                _LOG.error("the broker ended with code %d; starting it again", code)
                return
        finally:
            _end(child)

    def _wait_until_it_answers(self, child: subprocess.Popen[bytes]) -> None:
        deadline = time.monotonic() + START_WAIT_S
        address = (local_address(self._files.bind), self._files.port)
        while time.monotonic() < deadline and not self._stop.is_set():
            if child.poll() is not None:
                raise BrokerFailed(f"mosquitto ended at once: {_last_words(self._files.log)}")
            try:
                socket.create_connection(address, timeout=1.0).close()
            except OSError:
                time.sleep(0.02)
            else:
                return
        raise BrokerFailed(f"mosquitto does not answer on port {self._files.port}")


def bound_log(path: Path) -> None:
    """Move a log that has grown too long aside. Mosquitto appends, so it goes on in the same file.

    Never fails: a log is not worth the broker.
    """
    with contextlib.suppress(OSError):
        if path.stat().st_size <= MAX_LOG_BYTES:
            return
        try:
            shutil.copyfile(path, path.with_name(f"{path.name}.1"))
        finally:
            os.truncate(path, 0)


def _catches_hangup(pid: int) -> bool:
    """Mosquitto dies of a SIGHUP that comes before it has set itself up, though it listens by then;
    so does the interpreter that becomes it."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return False
    caught = next((line.split()[1] for line in lines if line.startswith("SigCgt:")), "0")
    return bool(int(caught, 16) >> (signal.SIGHUP - 1) & 1)


def _end(child: subprocess.Popen[bytes]) -> None:
    if child.poll() is None:
        child.terminate()
        try:
            child.wait(STOP_WAIT_S)
        except subprocess.TimeoutExpired:
            child.kill()
    child.wait()


def _last_words(path: Path) -> str:
    """The last two lines of the log: Mosquitto names the mistake first and its place after it."""
    lines = path.read_bytes()[-4096:].decode(errors="replace").splitlines()
    return " ".join(line for line in lines[-2:] if line.strip())[:400] or "it said nothing"
