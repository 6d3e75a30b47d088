"""A table of devices to add, as a CSV file, and labels as people write them.

Refuses a table as a whole, naming the file and the line, before anything is added. What a name or a
label may be is the hub's to say.
"""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from outrider.errors import CommandFailed

MAX_AT_ONCE = 10_000
MAX_CSV_BYTES = 4 << 20
_COLUMNS = ("name", "class", "labels")


@dataclass(frozen=True)
class Expected:
    """One device to add, and what was said of it; None: what the hub knows, or its default."""

    name: str
    device_class: str | None = None
    labels: dict[str, str] | None = field(default=None)
    row: str = ""
    """File and line, where it comes from a table."""


def read_table(path: Path) -> list[Expected]:
    """Its devices, of which no two have the same name; raises `CommandFailed`."""
    try:
        if path.stat().st_size > MAX_CSV_BYTES:
            raise CommandFailed(f"{path} is longer than {MAX_CSV_BYTES} bytes")
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = list(_parsed(path, csv.DictReader(file)))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise CommandFailed(f"{path}: {error}") from error
    most = Counter(row.name for row in rows).most_common(1)
    if not most or most[0][1] > 1:
        what = f"{most[0][0]!r} stands twice" if most else "no devices"
        raise CommandFailed(f"{path}: {what}")
    return rows


def parse_labels(given: list[str]) -> dict[str, str]:
    """`site=lyon` -> {"site": "lyon"}; raises `ValueError`."""
    labels = {}
    for text in given:
        key, equals, value = text.partition("=")
        if not (key and equals and value):
            raise ValueError(f"{text!r} is not KEY=VALUE")
        labels[key] = value
    return labels


def _parsed(path: Path, reader: csv.DictReader[str]) -> Iterator[Expected]:
    unknown = set(reader.fieldnames or ()) - set(_COLUMNS)
    if "name" not in (reader.fieldnames or ()) or unknown:
        raise CommandFailed(f"{path}: the first line must be name, and may have class and labels")
    for number, row in enumerate(reader, start=2):
        name = (row.get("name") or "").strip()
        where = f"{path} line {reader.line_num}"
        if not name or number > MAX_AT_ONCE + 1 or None in row:
            raise CommandFailed(f"{where}: not a device, or one too many")
        labels = [text.strip() for text in (row.get("labels") or "").split(";") if text.strip()]
        try:
            found = parse_labels(labels)
        except ValueError as error:
            raise CommandFailed(f"{where}: labels: {error}, as in site=lyon;floor=2") from error
        yield Expected(name, (row.get("class") or "").strip() or None, found or None, where)
