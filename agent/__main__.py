"""`python -m agent`: reads the settings, takes the lock, runs until it is told to stop.

Exit code: 0 stopped in good order, 1 could not start (one line says why), 2 usage, 70 a defect.
"""

from __future__ import annotations

import argparse
import logging
import os
import signal
import sqlite3
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path

from agent.assembly import assemble
from agent.control import Control
from agent.deployment.recovery import recorded
from agent.errors import DeviceError, DiskFull
from agent.identity import Identity, load_identity
from agent.journal import Journal, JournalUnreachable, JournalUnusable
from agent.lock import StateLock
from agent.serve_only import RETRY_S, ServeOnly
from agent.settings import AgentSettings, read_settings

_LOG = logging.getLogger("agent")
EX_SOFTWARE = 70


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the agent; returns the exit code."""
    chosen = _parse(arguments)
    try:
        settings = read_settings(chosen)
        _log_to_stderr(settings.log_level)
        lock = _prepare(settings)
        identity = load_identity(settings.state_dir)
    except (DeviceError, OSError) as error:
        sys.stderr.write(f"agent: {' '.join(str(error).split())}\n")
        return 1
    try:
        _run(settings, identity)
    except Exception:  # noqa: BLE001 - the process's boundary: its exit code says what it was
        _LOG.exception("the agent ends for a defect")
        return EX_SOFTWARE
    finally:
        lock.release()
    return 0


def _prepare(settings: AgentSettings) -> StateLock:
    """The folders that every part expects, private to the agent, and the lock on them."""
    os.umask(0o077)
    settings.state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    lock = StateLock(settings.state_dir)
    lock.acquire()
    return lock


def _run(settings: AgentSettings, identity: Identity) -> None:
    """One agent after the other until a signal: what could not be opened may be so later."""
    stopping = threading.Event()
    agent: Control | ServeOnly | None = None

    def stop(_number: int, _frame: object) -> None:
        stopping.set()
        if agent is not None:
            agent.request_stop()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)
    again = True
    while again:
        agent = _agent(settings, identity)
        if stopping.is_set():  # the signal came before there was anyone to tell
            agent.request_stop()
        again = agent.run()


def _agent(settings: AgentSettings, identity: Identity) -> Control | ServeOnly:
    """The whole agent, or what is left of it without the journal or the outbox."""
    try:
        journal = _journal(settings.state_dir / "journal.sqlite")
    except JournalUnreachable as error:
        return ServeOnly(settings, identity, str(error), RETRY_S)
    except JournalUnusable as error:
        return ServeOnly(settings, identity, str(error))
    try:
        return Control(assemble(settings, identity, journal, time.monotonic()))
    except (DiskFull, sqlite3.OperationalError) as error:
        journal.close()
        return ServeOnly(settings, identity, f"outbox.sqlite: {error}", RETRY_S)


def _journal(path: Path) -> Journal:
    """Opened, and every row of it readable: an update must not be the first to find out."""
    journal = Journal(path)
    try:
        recorded(journal)
    except JournalUnusable:
        journal.close()
        raise
    return journal


def _parse(arguments: Sequence[str] | None) -> dict[str, object]:
    parser = argparse.ArgumentParser(
        prog="python -m agent", description="The daemon of an enrolled device."
    )
    parser.add_argument("--state", dest="state_dir", type=Path, help="the state directory")
    parser.add_argument("--port", dest="http_port", type=int, help="for inference; 0: any free")
    parser.add_argument(
        "--no-server",
        dest="server",
        action="store_const",
        const=False,
        help="the inference server has a unit of its own",
    )
    parser.add_argument(
        "--log-level", choices=("debug", "info", "warning", "error"), help="what goes to stderr"
    )
    return vars(parser.parse_args(arguments))


def _log_to_stderr(level: str) -> None:
    """Without a timestamp: journald has its own."""
    logging.basicConfig(
        level=level.upper(), stream=sys.stderr, format="%(levelname)s %(name)s: %(message)s"
    )
    if level == "info":
        # At each refresh it names every key that need not have signed, which is the normal state of
        # a root that two of three hold. What is refused is an error, and said here by its name.
        logging.getLogger("tuf.api").setLevel(logging.WARNING)


if __name__ == "__main__":
    sys.exit(main())
