"""The options that several commands share, each described once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, TypeAlias

import typer

from outrider.client import HubClient
from outrider.operator import operator_path, read_operator

Json: TypeAlias = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]
Config: TypeAlias = Annotated[
    Path | None,
    typer.Option("--config", metavar="FILE", help="The operator configuration to use."),
]
PassphraseFile: TypeAlias = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="Read the passphrase from this file's first line."),
]


def connect(config: Path | None) -> HubClient:
    """A client for the hub that the operator's configuration names."""
    return HubClient(read_operator(operator_path(config)))


def group(name: str, summary: str) -> typer.Typer:
    """A command that only has sub-commands."""
    return typer.Typer(
        name=name,
        help=summary,
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
    )
