"""`python -m agent`: reads the settings, takes the lock, runs until it is told to stop.

Exit code: 0 stopped in good order, 1 could not start (one line says why), 2 usage, 70 a defect.
"""

from __future__ import annotations

import argparse
import logging
import os
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from agent.assembly import assemble
from agent.control import Control
from agent.errors import DeviceError
from agent.identity import load_identity
from agent.journal import Journal, JournalUnusable
from agent.lock import StateLock
from agent.serve_only import ServeOnly
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
        agent = _agent(settings)
    except (DeviceError, OSError) as error:
        sys.stderr.write(f"agent: {' '.join(str(error).split())}\n")
        return 1
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda _number, _frame: agent.request_stop())
    try:
        agent.run()
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


def _agent(settings: AgentSettings) -> Control | ServeOnly:
    identity = load_identity(settings.state_dir)
    try:
        journal = Journal(settings.state_dir / "journal.sqlite")
    except JournalUnusable as error:
        return ServeOnly(settings, identity, str(error))
    return Control(assemble(settings, identity, journal, time.monotonic()))


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


if __name__ == "__main__":
    sys.exit(main())
