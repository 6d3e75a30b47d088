"""`outrider device list|show|remove`; the others are in outrider.commands.enrolment."""

from __future__ import annotations

import sys
from typing import Annotated, Any

import typer

from outrider.commands.options import Config, Json, connect, group
from outrider.errors import CommandFailed
from outrider.pages import every_item
from outrider.terminal import minute, print_fields, print_json, print_table, say, short, when

device = group("device", "The fleet's devices.")
Name = Annotated[str, typer.Argument(metavar="NAME", help="The device's name.")]


@device.command("list")
def show_all(
    selector: Annotated[
        str | None, typer.Option("--to", metavar="SELECTOR", help="e.g. site=lyon,class=pi-5")
    ] = None,
    config: Config = None,
    json: Json = False,
) -> None:
    """List the devices, what they serve and whether they are alive.

    \b
    Example:
        outrider device list --to class=pi-5
    """
    with connect(config) as hub:
        devices = every_item(hub, "devices", selector=selector)
    if json:
        print_json(devices)
        return
    print_table(
        ("name", "class", "status", "alive", "last seen", "serves"),
        [
            (
                found["name"],
                found["device_class"],
                found["status"],
                "yes" if found["alive"] else "no",
                minute(found["last_seen_ms"]),
                ", ".join(_serves(found)) or "-",
            )
            for found in devices
        ],
        "no devices yet: outrider device add NAME",
    )


@device.command("show")
def show(name: Name, config: Config = None, json: Json = False) -> None:
    """Show one device: hardware, what it serves, how that went.

    \b
    Example:
        outrider device show cam-1
    """
    with connect(config) as hub:
        found = hub.get(f"devices/{name}")
    if json:
        print_json(found)
        return
    hardware = found.get("hardware") or {}
    print_fields(
        {
            "name": found["name"],
            "class": found["device_class"],
            "labels": ", ".join(f"{k}={v}" for k, v in sorted(found["labels"].items())),
            "status": found["status"],
            "alive": "yes" if found["alive"] else "no",
            "last seen": when(found["last_seen_ms"]),
            "agent": found["agent"],
            "hardware": " ".join(str(hardware.get(k) or "") for k in ("model", "machine")).strip(),
            "runtimes": ", ".join(f"{k} {v}" for k, v in (hardware.get("runtimes") or {}).items()),
            "unsent messages": found["outbox_pending"],
            "lost reports": found["outbox_dropped"],
        }
    )
    print_table(
        ("family", "phase", "serves", "digest", "good", "last result"),
        [_family(name, family) for name, family in sorted((found["families"] or {}).items())],
        "it serves nothing yet",
    )


@device.command("remove")
def remove(
    name: Name,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    config: Config = None,
    json: Json = False,
) -> None:
    """Revoke a device: the hub ignores it from now on. It keeps serving what it has.

    \b
    Example:
        outrider device remove cam-1
    """
    with connect(config) as hub:
        hub.get(f"devices/{name}")  # a name that nobody has is refused before anything is asked
        if not yes:
            _ask(name)
        answer = hub.delete(f"devices/{name}")
    if json:
        print_json(answer)
    else:
        say(f"{name} is revoked")


def _ask(name: str) -> None:
    if not sys.stdin.isatty():
        raise CommandFailed(f"nobody is here to confirm that {name} is revoked: give --yes")
    if not typer.confirm(f"Revoke {name}? It would have to enrol again", err=True):
        raise CommandFailed("nothing was removed")


def _serves(found: dict[str, Any]) -> list[str]:
    families = found.get("families") or {}
    return [str(family["target"]) for _, family in sorted(families.items()) if family["serving"]]


def _family(name: str, family: dict[str, Any]) -> tuple[object, ...]:
    last = family.get("last") or {}
    words = [last.get(key) for key in ("target", "outcome", "cause", "detail")]
    return (
        name,
        family["phase"] + (" (hold)" if family["hold"] else ""),
        family["target"],
        short(family["serving"]),
        family["good_inferences"],
        " ".join(str(word) for word in words if word),
    )
