"""`outrider hub new-ca` and `hub follow`: the hub goes to another CA, and operators go along."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import typer

from outrider.boundary import require
from outrider.commands.hub import Directory, hub
from outrider.commands.options import Config, Json, connect
from outrider.errors import CommandFailed
from outrider.operator import operator_path, read_operator, write_operator
from outrider.terminal import note, print_fields, print_json, say

if TYPE_CHECKING:
    from fleet.succession import Outcome

STAGES = {
    None: "one CA",
    "made": "the next CA is made; the hub stands under the present one",
    "switched": "the hub stands under the next CA; the former one is still believed",
    "finishing": "the former CA is given up",
}


@hub.command("new-ca")
def new_ca(
    directory: Directory,
    switch: Annotated[
        bool, typer.Option("--switch", help="Serve under the next CA, and issue from it.")
    ] = False,
    finish: Annotated[bool, typer.Option("--finish", help="Give the former CA up.")] = False,
    undo: Annotated[bool, typer.Option("--undo", help="Take the last step back.")] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Go on without the devices that this cuts off.")
    ] = False,
    config: Config = None,
    json: Json = False,
) -> None:
    """Make the CA that shall follow the present one, or go on with it.

    Without an option it makes the next root and intermediate; both CAs are believed from then on.
    `--switch` has the servers stand under the next one, to which devices then renew. `--finish`
    gives the former up. Until then `--undo` goes back. A running hub follows by itself.

    \b
    Example:
        outrider hub new-ca hub
        outrider keys ca keys --root hub/ca/root.crt --root hub/ca/next/root.crt
        outrider publish keys/trust.json
        outrider hub new-ca hub --switch
        outrider hub new-ca hub --finish
    """
    require("hub", "sqlalchemy", "alembic", "fastapi", "tuf", "paho.mqtt")
    step = _step(switch=switch, finish=finish, undo=undo)
    from fleet.assembly import system_clock
    from fleet.config import read_config
    from fleet.rotation import Step
    from fleet.setup import succession_at

    hub_config = read_config(directory)
    with succession_at(directory) as succession:
        if step is None:
            outcome = succession.make(hub_config.name, system_clock())
        else:
            outcome = succession.take(Step(step), system_clock(), force=force)
        roots = succession.authority.roots_pem()
    outcome = replace(outcome, next=outcome.next.replace("DIR", str(directory)))
    followed = _take_over_here(operator_path(config), hub_config.api_url, roots)
    _show(directory, outcome, followed, json=json, finished=step == "finish")


@hub.command("follow")
def follow(config: Config = None, json: Json = False) -> None:
    """Trust the roots that the hub names.

    Writes them into the operator configuration. For every operator, on every machine, while the hub
    goes to another CA: after its end the former root alone no longer reaches the hub. The hub is
    asked over the connection that is trusted now.

    \b
    Example:
        outrider hub follow
    """
    path = operator_path(config)
    with connect(config) as client:
        answer: dict[str, Any] = client.get("authority")
    url = read_operator(path).url
    changed = _take_over(path, url, str(answer["ca_pem"]))
    if json:
        print_json({"changed": changed, "roots": answer["roots"], "stage": answer["stage"]})
        return
    what = "takes other roots from now on" if changed else "holds the hub's roots already"
    say(f"{path} {what}: {', '.join(root[:12] for root in answer['roots'])}")


def _step(**asked: bool) -> str | None:
    chosen = [name for name, wanted in asked.items() if wanted]
    if len(chosen) > 1:
        raise typer.BadParameter(f"--{' and --'.join(chosen)} do not go together: give one")
    return chosen[0] if chosen else None


def _take_over(path: Path, url: str, ca_pem: str) -> bool:
    """Whether the configuration, if it is of that hub, changed."""
    present = read_operator(path)
    if present.url != url or present.ca_pem == ca_pem:
        return False
    write_operator(path, msgspec.structs.replace(present, ca_pem=ca_pem))
    return True


def _take_over_here(path: Path, url: str, ca_pem: str) -> bool:
    """The same where there is one: the step is done, and another account may own the file."""
    try:
        return _take_over(path, url, ca_pem)
    except CommandFailed:
        return False


def _show(directory: Path, outcome: Outcome, followed: bool, *, json: bool, finished: bool) -> None:
    from fleet.rotation import DEVICES_FOLLOW

    stage = outcome.stage.value if outcome.stage is not None else None
    if json:
        print_json({"stage": stage, "cut_off": outcome.cut_off, "next": outcome.next})
        return
    print_fields({"stage": STAGES[stage]})
    if outcome.cut_off:
        note(f"Left behind, to be enrolled again: {', '.join(outcome.cut_off)}")
    if followed:
        note("The operator configuration here follows; others run `outrider hub follow`.")
    if finished:
        note(
            "Next: name the new root alone, `outrider keys ca KEYS --root"
            f" {directory / 'ca' / 'root.crt'}`, then publish"
        )
    elif outcome.next:
        note(f"Next: {outcome.next}")
    if finished or stage is not None:
        note(f"When: {DEVICES_FOLLOW}.")
