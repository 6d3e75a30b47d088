"""`outrider agent enroll|run|status`: the device's side of the command line."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from outrider.boundary import require
from outrider.commands.options import Json, group
from outrider.settings import read_environment
from outrider.terminal import note, print_fields, print_json, print_table, say, short, when

agent = group("agent", "This device: enrol it, run it, ask how it is.")
State = Annotated[
    Path | None,
    typer.Option("--state", metavar="DIR", help="The state directory [/var/lib/outrider]."),
]


@agent.command("enroll")
def enroll(
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="Written by `outrider device add NAME`.")
    ],
    state: State = None,
    force: Annotated[
        bool, typer.Option("--force", help="Replace the identity that this device has.")
    ] = False,
) -> None:
    """Make this device's key, and fetch its certificate from the hub.

    The key never leaves the device. The file works once, and for an hour. Where the hub asks an
    operator first, the command shows the key's fingerprint and waits.

    \b
    Example:
        outrider agent enroll cam-1.enrol.json --state /var/lib/outrider
    """
    require("agent", "tuf", "paho.mqtt", "psutil")
    from agent.enrol import enroll as run

    directory = _state(state)
    identity = run(file, directory, force=force, waiting=_say_waiting)
    say(f"enrolled as {identity.device}; identity in {directory / 'identity'}")
    note(f"{file} is spent and may be deleted. Next: outrider agent run --state {directory}")


def _say_waiting(pending: Any) -> None:
    note(f"The hub asks an operator first: outrider device approve {pending.device}")
    note(f"key fingerprint {pending.key_id}; waiting...")


@agent.command("run")
def run(
    state: State = None,
    port: Annotated[
        int | None, typer.Option(min=0, max=65_535, help="For inference, on loopback; 0: any free.")
    ] = None,
) -> None:
    """Run the daemon in the foreground, as its unit does.

    \b
    Example:
        outrider agent run --state /var/lib/outrider --port 8080
    """
    require("agent", "tuf", "paho.mqtt", "psutil", "uvicorn")
    arguments = [sys.executable, "-m", "agent", "--state", str(_state(state))]
    if port is not None:
        arguments += ["--port", str(port)]
    sys.stdout.flush()
    # Replaced by the daemon, which so carries nothing of the command line in its memory.
    os.execv(sys.executable, arguments)  # noqa: S606 - our own interpreter and module


@agent.command("status")
def status(state: State = None, json: Json = False) -> None:
    """What this device serves, and how its deployments stand.

    \b
    Example:
        outrider agent status --state /var/lib/outrider
    """
    require("agent", "psutil")
    from agent.status import read_status

    found = read_status(_state(state))
    if json:
        print_json(found)
        return
    families: dict[str, dict[str, Any]] = found.pop("families", {})
    print_fields(dict(_fields(found)))
    for warning in certificate_warnings(found):
        say(f"warning: {warning}")
    print_table(
        ("family", "phase", "serving", "digest", "good", "last result"),
        [_family_row(name, family) for name, family in sorted(families.items())],
        "no model is assigned to this device yet",
    )


def certificate_warnings(found: dict[str, Any]) -> Iterator[str]:
    """A device renews its certificate when two thirds are over: later than that is worth a look."""
    begins_ms, ends_ms = found.get("certificate_begins_ms"), found.get("certificate_ends_ms")
    if begins_ms is None or ends_ms is None:
        return
    now_ms = found["at_ms"]
    why = found.get("renewal_error") or "no renewal has failed yet"
    if now_ms >= ends_ms:
        yield f"the certificate ended on {when(ends_ms)}, and the hub lets nobody in with it: {why}"
    elif now_ms >= ends_ms - (ends_ms - begins_ms) // 3:
        yield f"the certificate ends on {when(ends_ms)} and was due to be renewed: {why}"


def _fields(found: dict[str, Any]) -> Iterator[tuple[str, object]]:
    """What is one value; times as dates, under names without their unit."""
    for name, value in found.items():
        if name.endswith("_ms") and isinstance(value, int):
            yield name.removesuffix("_ms"), when(value)
        elif not isinstance(value, dict | list):
            yield name, value


def _family_row(name: str, family: dict[str, Any]) -> tuple[object, ...]:
    last = family.get("last") or {}
    result = " ".join(
        str(part)
        for part in (
            last.get("outcome"),
            last.get("cause"),
            last.get("detail"),
            when(last.get("at_ms")),
        )
        if part and part != "-"
    )
    return (
        name,
        family["phase"] + (" (hold)" if family.get("hold") else ""),
        family.get("target"),
        short(family.get("serving")),
        family.get("good_inferences", 0),
        result,
    )


def _state(given: Path | None) -> Path:
    return given if given is not None else read_environment().agent_state
