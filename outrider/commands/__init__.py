"""The command line's verbs, put together. Each imports its room only when it is called."""

from __future__ import annotations

import typer

from outrider import __version__
from outrider.commands import authority as _authority  # noqa: F401 - adds its verbs to `hub`
from outrider.commands import enrolment as _enrolment  # noqa: F401 - adds its verbs to `device`
from outrider.commands.agent import agent
from outrider.commands.bench import bench
from outrider.commands.convert import convert
from outrider.commands.demo import demo
from outrider.commands.device import device
from outrider.commands.doctor import doctor
from outrider.commands.hub import hub, publish
from outrider.commands.inspect import inspect
from outrider.commands.keys import keys, sign
from outrider.commands.rollout import rollback, rollout

app = typer.Typer(
    help="Carries machine-learning models to edge devices and reports how they fare there.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"outrider {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: bool = typer.Option(
        False, "--version", callback=_print_version, is_eager=True, help="Print the version."
    ),
) -> None:
    """Options of the program itself."""


app.command()(convert)
app.command()(inspect)
app.command()(bench)
app.add_typer(keys, name="keys")
app.command()(sign)
app.add_typer(hub, name="hub")
app.command()(publish)
app.add_typer(device, name="device")
app.add_typer(agent, name="agent")
app.add_typer(rollout, name="rollout")
app.command()(rollback)
app.command()(demo)
app.command()(doctor)
