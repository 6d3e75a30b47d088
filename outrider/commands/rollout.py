"""`outrider rollout ...`, `outrider rollback`: what the fleet is told to serve, how it goes."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.live import Live
from rich.text import Text

from outrider.commands.options import Config, Json, connect, group
from outrider.commands.rollout_text import (
    device_row,
    print_plan,
    print_rollout,
    progress_line,
    rollout_row,
    why_lines,
)
from outrider.durations import parse_duration
from outrider.pages import every_item
from outrider.sizes import parse_size
from outrider.terminal import ERR, OUT, counted, note, print_json, print_table, say

rollout = group("rollout", "Roll a release out wave by wave, watch it, stop it.")
Id = Annotated[str, typer.Argument(metavar="ID", help="The rollout, as `rollout list` names it.")]
OPEN = ("running", "paused", "reverting")
POLL_S = 1.0


def _seconds(text: str) -> int:
    try:
        return parse_duration(text)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error


def _budget(text: str) -> int:
    try:
        size = parse_size(text)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error
    if not size:
        raise typer.BadParameter("a budget of 0 would be none: leave --metered-budget out")
    return size


@rollout.command("start")
def start(
    release: Annotated[str, typer.Argument(metavar="FAMILY:VERSION", help="e.g. digits:2")],
    to: Annotated[
        str, typer.Option(metavar="SELECTOR", help="all, or e.g. class=pi-5,site=lyon,name=cam-*")
    ],
    waves: Annotated[
        str, typer.Option(metavar="LIST", help="Cumulative: percent, or numbers of devices.")
    ] = "5%,25%,100%",
    soak: Annotated[
        str, typer.Option(metavar="TIME", help="How long a wave must stay good.")
    ] = "10m",
    deadline: Annotated[
        str, typer.Option(metavar="TIME", help="How long a device may take; then: timed out.")
    ] = "1h",
    abort_if: Annotated[
        str, typer.Option(metavar="RULE", help="'failed>10%' or 'failed>=2', of those reached.")
    ] = "failed>10%",
    on_failure: Annotated[
        str, typer.Option(metavar="revert|pause", help="What a failing gate does.")
    ] = "revert",
    min_inferences: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="Good inferences a device must show.")
    ] = None,
    metered_budget: Annotated[
        str | None, typer.Option(metavar="SIZE", help="What it may cost each device, e.g. 20MB.")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would happen; change nothing.")
    ] = False,
    config: Config = None,
    json: Json = False,
) -> None:
    """Roll a release out, wave by wave; each wave's gate opens the next.

    A wave passes when its devices *serve the release with good inferences* for the soak time.

    \b
    Example:
        outrider rollout start digits:2 --to site=lyon --waves 5%,25%,100% --dry-run
        outrider rollout start digits:2 --to all --soak 10m --abort-if 'failed>10%'
        outrider rollout start digits:2 --to link=lte --metered-budget 20MB
    """
    body: dict[str, Any] = {
        "release": release,
        "selector": to,
        "waves": [wave.strip() for wave in waves.split(",")],
        "soak_s": _seconds(soak),
        "deadline_s": _seconds(deadline),
        "abort_if": abort_if,
        "on_failure": on_failure,
        "dry_run": dry_run,
    }
    if min_inferences is not None:
        body["min_inferences"] = min_inferences
    if metered_budget is not None:
        body["metered_bytes"] = _budget(metered_budget)
    with connect(config) as hub:
        answer = hub.post("rollouts", body)
    if json:
        print_json(answer)
    elif dry_run:
        print_plan(answer)
    else:
        say(f"rollout {answer['id']} started: {counted(answer['counts']['total'], 'device')}")
        note(f"Next: outrider rollout watch {answer['id']}")


@rollout.command("list")
def show_all(config: Config = None, json: Json = False) -> None:
    """List the rollouts, newest first.

    \b
    Example:
        outrider rollout list
    """
    with connect(config) as hub:
        found = every_item(hub, "rollouts")
    if json:
        print_json(found)
        return
    print_table(
        ("id", "kind", "release", "to", "status", "wave", "good", "failed", "started"),
        [rollout_row(one) for one in found],
        "no rollouts yet: outrider rollout start FAMILY:VERSION --to all",
    )


@rollout.command("show")
def show(id: Id, config: Config = None, json: Json = False) -> None:
    """Show one rollout: its waves and each device.

    \b
    Example:
        outrider rollout show r1
    """
    with connect(config) as hub:
        found = hub.get(f"rollouts/{id}")
    if json:
        print_json(found)
        return
    print_rollout(found)
    print_table(
        ("device", "wave", "status", "phase", "outcome", "cause", "good", "detail"),
        [device_row(one) for one in found["devices"]],
        "no devices",
    )


@rollout.command("watch")
def watch(id: Id, config: Config = None, json: Json = False) -> None:
    """Follow a rollout until it ends. Exit code 1 when it does not complete.

    \b
    Example:
        outrider rollout watch r1
    """
    with connect(config) as hub:
        found = hub.get(f"rollouts/{id}")
        shown = progress_line(found)
        with Live(Text(shown), console=ERR, transient=True) as live:
            if not ERR.is_terminal:
                note(shown)
            while found["status"] in OPEN:
                time.sleep(POLL_S)
                found = hub.get(f"rollouts/{id}")
                if progress_line(found) != shown:
                    shown = progress_line(found)
                    live.update(Text(shown))
                    if not ERR.is_terminal:
                        note(shown)
    if json:
        print_json(found)
    else:
        say(progress_line(found) + (f": {found['reason']}" if found["reason"] else ""))
    if found["status"] != "completed":
        raise typer.Exit(1)


@rollout.command("why")
def why(id: Id, config: Config = None, json: Json = False) -> None:
    """Tell each decision of a rollout, with the evidence it saw.

    \b
    Example:
        outrider rollout why r1
    """
    with connect(config) as hub:
        head = hub.get(f"rollouts/{id}/why", limit=1)["rollout"]
        found = every_item(hub, f"rollouts/{id}/why")
    if json:
        print_json({"rollout": head, "items": found})
        return
    for line in why_lines(head, found):
        OUT.print(Text(line), highlight=False)


@rollout.command("pause")
def pause(id: Id, config: Config = None, json: Json = False) -> None:
    """Assign no further device until `resume`. Devices under way go on.

    \b
    Example:
        outrider rollout pause r1
    """
    _steer(id, "pause", config, json)


@rollout.command("resume")
def resume(
    id: Id,
    accept_unproven: Annotated[
        bool, typer.Option("--accept-unproven", help="Count unproven devices as good from now on.")
    ] = False,
    config: Config = None,
    json: Json = False,
) -> None:
    """Go on with a paused rollout.

    \b
    Example:
        outrider rollout resume r1
    """
    _steer(id, "resume", config, json, {"accept_unproven": True} if accept_unproven else None)


@rollout.command("abort")
def abort(id: Id, config: Config = None, json: Json = False) -> None:
    """End a rollout where it stands. Takes nothing back: for that, `outrider rollback`.

    \b
    Example:
        outrider rollout abort r1
    """
    _steer(id, "abort", config, json)


def rollback(
    family: Annotated[str, typer.Argument(metavar="FAMILY", help="e.g. digits")],
    to: Annotated[str, typer.Option(metavar="SELECTOR", help="Which devices.")] = "all",
    config: Config = None,
    json: Json = False,
) -> None:
    """Take devices back to the release that they served before.

    Aborts the family's open rollouts on these devices. Where one has reached nobody yet, that is
    all.

    \b
    Example:
        outrider rollback digits
    """
    with connect(config) as hub:
        answer = hub.post("rollback", {"family": family, "selector": to})
    if json:
        print_json(answer)
        return
    if answer["kind"] == "rollout":
        # Whom it reached had nothing before, so that its end is all that can be done.
        say(f"rollout {answer['id']} aborted: {answer['reason']}; nothing else to take back")
        return
    say(f"rollback {answer['id']} started: {counted(answer['counts']['total'], 'device')}")
    note(f"Next: outrider rollout watch {answer['id']}")


def _steer(
    id: str, verb: str, config: Path | None, json: bool, body: dict[str, Any] | None = None
) -> None:
    with connect(config) as hub:
        answer = hub.post(f"rollouts/{id}/{verb}", body)
    if json:
        print_json(answer)
    else:
        say(answer["effects"]["words"])
