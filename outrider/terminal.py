"""What a person or a script reads: tables, lines, JSON. Results on stdout, the rest on stderr."""

from __future__ import annotations

import datetime
import json
import re
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

OUT = Console(soft_wrap=True)
ERR = Console(stderr=True, soft_wrap=True)

COLOURS = {
    "committed": "green",
    "succeeded": "green",
    "completed": "green",
    "online": "green",
    "running": "cyan",
    "paused": "yellow",
    "unproven": "yellow",
    "offline": "red",
    "failed": "red",
    "rejected": "red",
    "rolled-back": "red",
    "timed-out": "red",
    "reverted": "red",
    "aborted": "red",
}


_CONTROLS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f]")
"""What would move the cursor, change colours or the window's title: names come from elsewhere."""


def print_json(value: object) -> None:
    """One JSON document, for scripts."""
    json.dump(value, sys.stdout, indent=1, sort_keys=True, default=str)
    sys.stdout.write("\n")


def say(text: str) -> None:
    """One line of result, printed as it is."""
    OUT.print(Text(plain(text)), highlight=False)


def note(text: str) -> None:
    """One line beside the result: what happened, or what to do next."""
    ERR.print(Text(plain(text), style="dim"), highlight=False)


def print_table(columns: Sequence[str], rows: Sequence[Sequence[object]], empty: str) -> None:
    """A table, or `empty` when there is nothing to show."""
    if not rows:
        note(empty)
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(_cell(column), overflow="fold")
    for row in rows:
        table.add_row(*(_cell(value) for value in row))
    OUT.print(table)


def print_fields(fields: Mapping[str, object]) -> None:
    """Names and values, one a line; absent values are left out."""
    shown = {name: value for name, value in fields.items() if value not in (None, "", [], {})}
    width = max((len(name) for name in shown), default=0)
    for name, value in shown.items():
        OUT.print(Text(f"{plain(name):<{width}}  ", style="bold") + _cell(value))


def plain(text: str) -> str:
    """The text without anything that a terminal would obey; line breaks and tabs stay."""
    return _CONTROLS.sub("\ufffd", text)


def when(at_ms: int | None) -> str:
    """UTC to the second, or `-`."""
    if not at_ms:
        return "-"
    moment = datetime.datetime.fromtimestamp(at_ms / 1000, datetime.timezone.utc)
    return moment.strftime("%Y-%m-%d %H:%M:%SZ")


def minute(at_ms: int | None) -> str:
    """For columns: UTC to the minute, without the year, or `-`."""
    return when(at_ms)[5:16] + "Z" if at_ms else "-"


def counted(number: int, noun: str) -> str:
    """`1 device`, `2 devices`."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def short(digest: str | None) -> str:
    """The first 12 hex digits of a digest, or `-`."""
    return digest[:12] if digest else "-"


def figures(values: Mapping[str, Any]) -> str:
    """`a=1, b=2.5`: measured values on one line."""
    return ", ".join(f"{name}={value:g}" for name, value in sorted(values.items()))


def _cell(value: object) -> Text:
    text = "-" if value is None else plain(str(value))
    return Text(text, style=COLOURS.get(text, ""))
