"""A hub that kills itself at a chosen moment: run as a program, with its directory and the moment.

`commit`: when the first event is about to be committed. `ack`: when it is committed and its
acknowledgement is about to be sent.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

from sqlalchemy import Connection, event

from contract.topics import Channel
from fleet.assembly import run_hub
from fleet.link import Link, Outgoing


def die(*_: object) -> None:
    os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(60)


def main(directory: Path, moment: str) -> None:
    with run_hub(directory, external_broker=True) as running:
        if moment == "commit":
            _die_before_commit(running.services.storage.engine)
        else:
            _die_before_ack()
        sys.stdout.write("armed\n")
        sys.stdout.flush()
        time.sleep(60)


def _die_before_commit(engine: object) -> None:
    written = []

    def note(_c: object, _u: object, statement: str, *_: object) -> None:
        if "INSERT INTO events" in statement:
            written.append(statement)

    def commit(_connection: Connection) -> None:
        if written:
            die()

    event.listen(engine, "before_cursor_execute", note)
    event.listen(engine, "commit", commit)


def _die_before_ack() -> None:
    def offer(self: Link, message: Outgoing) -> None:
        assert message.topic.endswith(Channel.ACK.value)
        die()

    Link.offer = offer  # type: ignore[method-assign] # the moment between commit and ack


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
