"""`outrider device add|pending|approve`: who is expected, and who may come in."""

from __future__ import annotations

import dataclasses
import json as jsonlib
import tempfile
from pathlib import Path
from typing import Annotated, Any

import typer

from outrider.client import HubClient
from outrider.commands.device import device
from outrider.commands.device_table import MAX_AT_ONCE, Expected, parse_labels, read_table
from outrider.commands.options import Config, Json, connect
from outrider.durations import parse_duration
from outrider.errors import CommandFailed, HubRefused
from outrider.operator import write_private
from outrider.terminal import counted, minute, note, print_json, print_table, say, when

LEAST_VALID_S = 60


@device.command("add")
def add(
    name: Annotated[
        str | None, typer.Argument(metavar="[NAME]", help="The device's name; or see --count.")
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "-o",
            "--output",
            metavar="PATH",
            help="The file [NAME.enrol.json]; the folder, for several devices [enrolments].",
        ),
    ] = None,
    device_class: Annotated[
        str | None, typer.Option("--class", metavar="CLASS", help="The kind of device, e.g. pi-5.")
    ] = None,
    label: Annotated[
        list[str] | None, typer.Option(metavar="KEY=VALUE", help="For selectors; repeatable.")
    ] = None,
    replace: Annotated[
        bool,
        typer.Option(
            "--replace",
            help="Another machine, or a new disk, in this device's place: its old"
            " certificate is revoked, its history and its releases stay.",
        ),
    ] = False,
    count: Annotated[
        int | None, typer.Option(min=1, max=MAX_AT_ONCE, help="Add so many, named by --prefix.")
    ] = None,
    prefix: Annotated[str, typer.Option(help="With --count: cam- gives cam-01, cam-02, ...")] = "",
    csv_file: Annotated[
        Path | None,
        typer.Option("--csv", metavar="FILE", help="Add each row: name,class,labels (a=b;c=d)."),
    ] = None,
    valid: Annotated[
        str, typer.Option(metavar="DURATION", help="How long the file is good: 1m to 30d.")
    ] = "1h",
    config: Config = None,
    json: Json = False,
) -> None:
    """Expect a device, and write the file with which it enrols.

    The file works once. For several devices it is a folder of such files.

    \b
    Example:
        outrider device add cam-1 --class pi-5 --label site=lyon
        scp cam-1.enrol.json cam-1:   # then, there: outrider agent enroll cam-1.enrol.json
        outrider device add --count 20 --prefix cam- --class pi-5 --valid 7d -o enrolments
        outrider device add cam-1 --replace
    """
    if (name is not None) + (count is not None) + (csv_file is not None) != 1:
        raise CommandFailed("give a NAME, or --count with --prefix, or --csv")
    labels = _labels(label) if label else None
    if name is not None:
        path = output or Path(f"{name}.enrol.json")
        jobs = [(path, Expected(name, device_class, labels))]
    else:
        folder = output or Path("enrolments")
        expected = read_table(csv_file) if csv_file else _numbered(prefix, count or 0)
        jobs = [
            (folder / f"{e.name}.enrol.json", _filled(e, device_class, labels)) for e in expected
        ]
        _make_folder(folder, [path for path, _ in jobs])
    for path, _ in jobs:
        _require_free(path)
    _require_writable({path.absolute().parent for path, _ in jobs})
    with connect(config) as hub:
        done = _add_all(hub, jobs, replace, _seconds(valid))
    if json:
        print_json(done[0] if name is not None else done)
        return
    for each in done:
        say(f"{each['file']} lets {each['device']} enrol once, until {when(each['expires_at_ms'])}")
    note("It holds a secret. Take it to the device; there: outrider agent enroll FILE")


@device.command("pending")
def pending(config: Config = None, json: Json = False) -> None:
    """List the machines that wait for an operator's word.

    \b
    Example:
        outrider device pending
    """
    with connect(config) as hub:
        found = hub.get("enrolments")["items"]
    if json:
        print_json(found)
        return
    print_table(
        ("name", "host", "model", "serial", "asked", "approved"),
        [
            (
                each["device"],
                each["claims"]["host"],
                each["claims"]["model"],
                each["claims"]["serial"],
                minute(each["asked_at_ms"]),
                "yes" if each["approved"] else "no",
            )
            for each in found
        ],
        "nobody waits for approval",
    )
    # A person compares them with what devices show: no table may wrap or cut them.
    if found:
        say("\nkey fingerprint")
    for each in found:
        say(f"{each['key_id']}  {each['device']}")


@device.command("approve")
def approve(
    name: Annotated[
        str | None, typer.Argument(metavar="[NAME]", help="The device that may come in.")
    ] = None,
    everybody: Annotated[bool, typer.Option("--all", help="Whoever waits now.")] = False,
    config: Config = None,
    json: Json = False,
) -> None:
    """Let a machine in that `outrider device pending` shows. To refuse: outrider device remove.

    \b
    Example:
        outrider device approve cam-1
        outrider device approve --all
    """
    if (name is not None) == everybody:
        raise CommandFailed("give a NAME, or --all")
    with connect(config) as hub:
        waiting = [each for each in hub.get("enrolments")["items"] if not each["approved"]]
        chosen = [each for each in waiting if everybody or each["device"] == name]
        if name is not None and not chosen:
            raise CommandFailed(f"no request to enrol {name} waits: outrider device pending")
        done = [
            hub.post(f"enrolments/{each['device']}/approve", {"key_id": each["key_id"]})
            for each in chosen
        ]
    if json:
        print_json(done)
        return
    for each in done:
        say(f"{each['device']} may enrol with key {each['key_id']}")
    if not done:
        say("nobody waits for approval")


def _labels(given: list[str]) -> dict[str, str]:
    try:
        return parse_labels(given)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--label") from error


def _add_all(
    hub: HubClient, jobs: list[tuple[Path, Expected]], replace: bool, valid_s: int
) -> list[dict[str, Any]]:
    """Each file is written before the next device is added: what was done is never lost."""
    done: list[dict[str, Any]] = []
    for path, each in jobs:
        body: dict[str, object] = {"name": each.name, "replace": replace, "valid_s": valid_s}
        if each.device_class is not None:
            body["device_class"] = each.device_class
        if each.labels is not None:
            body["labels"] = each.labels
        try:
            file = hub.post("devices", body)
        except CommandFailed as error:
            if done:
                note(f"{len(done)} of {counted(len(jobs), 'device')} added before this one")
            if each.row and isinstance(error, HubRefused):
                raise HubRefused(error.status, error.code, f"{each.row}: {error}") from error
            raise
        write_private(path, jsonlib.dumps(file, indent=1).encode() + b"\n")
        done.append(
            {"device": each.name, "file": str(path), "expires_at_ms": file["expires_at_ms"]}
        )
    return done


def _numbered(prefix: str, count: int) -> list[Expected]:
    if not prefix:
        raise CommandFailed("--count needs --prefix, e.g. --prefix cam-")
    width = len(str(count))
    return [Expected(f"{prefix}{number:0{width}d}") for number in range(1, count + 1)]


def _filled(one: Expected, device_class: str | None, labels: dict[str, str] | None) -> Expected:
    """A row's own words win over the command line's."""
    return dataclasses.replace(
        one, device_class=one.device_class or device_class, labels=one.labels or labels
    )


def _make_folder(folder: Path, files: list[Path]) -> None:
    if any(path.parent != folder for path in files):
        raise CommandFailed("a device's name cannot hold '/'; nothing was added")
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        raise CommandFailed(f"{folder}: {error.strerror}; nothing was added") from error


def _require_free(path: Path) -> None:
    if path.exists():
        raise CommandFailed(f"{path} exists already: delete it, or name another with -o")
    if not path.absolute().parent.is_dir():
        raise CommandFailed(f"{path.absolute().parent}: no such directory; nothing was added")


def _require_writable(folders: set[Path]) -> None:
    """Tried, not asked: rights are not all that can be in the way."""
    for folder in folders:
        try:
            tempfile.TemporaryFile(dir=folder).close()
        except OSError as error:
            raise CommandFailed(
                f"cannot write to {folder}: {error.strerror}; nothing was added"
            ) from error


def _seconds(text: str) -> int:
    try:
        seconds = parse_duration(text)
        if seconds < LEAST_VALID_S:
            raise ValueError(f"{text!r} is shorter than a minute")
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--valid") from error
    return seconds
