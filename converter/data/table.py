"""CSV files: a header, one sample a line, numbers with a point. Every other cell is named.

Columns are picked by the recipe's names; without a recipe, by those of the table that was read
before, which must be the same set; the first table is taken in its own order, all but the label
column. The label column holds class names or class numbers. Refuses a file without a header.
"""

from __future__ import annotations

import csv
import math
from array import array
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from contract.processing import TableInput
from converter.data import raw
from converter.data.raw import Raw, Reading
from converter.data.rows import Array, Layout, refuse_too_many
from converter.data.spool import Spool
from converter.errors import BadLabels, SamplesUnreadable, WrongArrays
from model.preprocessing import prepare_columns

DEFAULT_LABEL_COLUMN = "label"
MAX_COLUMNS = 4097
_FEW = 12
_SEPARATORS = {";": "semicolons", "\t": "tabs", "|": "bars"}
"""Of other dialects, where the first line is one cell of ours."""
_BLOCK_VALUES = 1 << 16


def read_csv(path: Path, name: str, reading: Reading) -> Raw:
    """The table as float32 [N, columns] for the input `name`.

    Raises `SamplesUnreadable`, `WrongArrays`, `BadLabels`, or `OSError`.
    """
    if path.stat().st_size > raw.MAX_DATA_BYTES // 4:
        raise SamplesUnreadable(f"{path}: too long for a table of samples; give fewer samples")
    recipe = reading.recipe(name)
    if recipe is not None and not isinstance(recipe, TableInput):
        raise WrongArrays(
            f"{path}: {name!r} is prepared from images or sound; give a folder of them"
        )
    try:
        with (
            path.open(newline="", encoding="utf-8-sig") as file,
            Spool(str(path), reading.spool) as spool,
        ):
            lines = csv.reader(file, strict=True)
            header = _header(path, next(lines, []))
            label = _label_place(path, header, reading)
            places = _places(path, header, label, recipe, reading)
            columns = _Columns(path, header, places, label)
            names, labels = _read(columns, lines, recipe, spool)
            table = spool.array(Layout(0, (len(names), len(places)), np.dtype(np.float32)))
    except (csv.Error, UnicodeDecodeError) as error:
        raise SamplesUnreadable(
            f"{path}: not a table of comma-separated UTF-8 text ({error}); export it again"
        ) from error
    numbers = None if label is None else _numbers(path, labels, names, reading.classes)
    columns_taken = tuple(header[place] for place in places)
    return Raw({name: table}, numbers, tuple(names), columns=columns_taken)


def _header(path: Path, cells: Sequence[str]) -> list[str]:
    header = [cell.strip() for cell in cells]
    if not 0 < len(header) <= MAX_COLUMNS:
        raise SamplesUnreadable(f"{path}: {len(header)} columns; 1 to {MAX_COLUMNS}")
    other = next((name for mark, name in _SEPARATORS.items() if mark in header[0]), None)
    if len(header) == 1 and other is not None:
        raise SamplesUnreadable(f"{path}: separated by {other}; export it with commas")
    if len(set(header)) != len(header) or "" in header:
        raise SamplesUnreadable(
            f"{path}: the first line must name each column once; it is {_listed(header)}"
        )
    if all(_number(cell) is not None for cell in header):
        raise SamplesUnreadable(f"{path}: the first line holds numbers; it must name the columns")
    return header


def _label_place(path: Path, header: Sequence[str], reading: Reading) -> int | None:
    wanted = reading.label_column or DEFAULT_LABEL_COLUMN
    if wanted in header:
        return header.index(wanted)
    if reading.label_column is not None and reading.labelled:
        raise BadLabels(f"{path}: no column {wanted!r}; it has {_listed(header)}")
    return None


def _places(
    path: Path,
    header: Sequence[str],
    label: int | None,
    recipe: TableInput | None,
    reading: Reading,
) -> list[int]:
    if recipe is not None:
        return _named(path, header, recipe.columns, "the recipe")
    places = [place for place in range(len(header)) if place != label]
    if not reading.columns:
        return places
    more = [header[place] for place in places if header[place] not in reading.columns]
    if more:
        raise WrongArrays(
            f"{path}: column {more[0]!r} is not one of {reading.columns_of} ({len(more)} are not);"
            " both must name the same columns"
        )
    return _named(path, header, reading.columns, reading.columns_of)


def _named(path: Path, header: Sequence[str], wanted: Sequence[str], whose: str) -> list[int]:
    places = {column: place for place, column in enumerate(header)}
    missing = [column for column in wanted if column not in places]
    if missing:
        raise WrongArrays(
            f"{path}: no column {missing[0]!r} as {whose} has ({len(missing)} of {len(wanted)} are"
            f" missing); it has {_listed(header)}"
        )
    return [places[column] for column in wanted]


def _listed(header: Sequence[str]) -> str:
    rest = len(header) - _FEW
    return f"{list(header[:_FEW])}" + (f" and {rest} more" if rest > 0 else "")


@dataclass(frozen=True)
class _Columns:
    """Which cells of a line are values, and which one is the label."""

    path: Path
    header: Sequence[str]
    places: Sequence[int]
    label: int | None

    def values(self, number: int, cells: Sequence[str]) -> list[float]:
        """Of line `number`; raises `SamplesUnreadable` that names line and column."""
        if len(cells) != len(self.header):
            raise SamplesUnreadable(
                f"{self.path}: line {number} has {len(cells)} cells, the header {len(self.header)}"
            )
        found = []
        for place in self.places:
            value = _number(cells[place])
            if value is None:
                raise SamplesUnreadable(
                    f"{self.path}: line {number}, column {self.header[place]!r}:"
                    f" {cells[place][:40]!r} is no number; fill or drop the line"
                )
            found.append(value)
        return found


def _read(
    columns: _Columns, lines: Iterator[list[str]], recipe: TableInput | None, spool: Spool
) -> tuple[list[str], list[str]]:
    """Names and labels of the samples, whose prepared values go into `spool` in blocks."""
    values: array[float] = array("d")
    names: list[str] = []
    labels: list[str] = []
    for number, cells in enumerate(lines, start=2):
        if not cells:
            continue
        values.extend(columns.values(number, cells))
        names.append(f"line {number}")
        labels.append("" if columns.label is None else cells[columns.label].strip())
        refuse_too_many(str(columns.path), len(names))
        if len(values) >= _BLOCK_VALUES:
            spool.add_rows(_prepared(values, len(columns.places), recipe))
            del values[:]
    spool.add_rows(_prepared(values, len(columns.places), recipe))
    return names, labels


def _prepared(values: array[float], columns: int, recipe: TableInput | None) -> Array:
    table = np.array(values, np.float64).reshape(len(values) // max(columns, 1), columns)
    if recipe is not None and len(table):
        table = np.stack([prepare_columns(recipe, row) for row in table])
    with np.errstate(over="ignore"):  # what overflows is found as Inf right after
        return table.astype(np.float32)


def _number(cell: str) -> float | None:
    """NaN and infinity are numbers here: the check of the samples names them."""
    try:
        return float(cell)
    except ValueError:
        return None


def _numbers(
    path: Path, labels: Sequence[str], names: Sequence[str], classes: Sequence[str]
) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    known = {label: place for place, label in enumerate(classes)}
    numbers = _places_of_numbers(classes)
    found = np.zeros(len(labels), np.int64)
    for place, label in enumerate(labels):
        whole = _whole(label)
        number = known.get(label, whole if numbers is None else numbers.get(whole))
        if number is None:
            raise BadLabels(
                f"{path}: {names[place]}: {label[:40]!r} is no class number and none of"
                f" {list(classes)[:_FEW] or 'the (unknown) class names'}; give --labels"
            )
        found[place] = number
    return found


def _places_of_numbers(classes: Sequence[str]) -> Mapping[int | None, int] | None:
    """By the number that each class is called, where all are: then a number is a name, no place."""
    wholes = [_whole(label) for label in classes]
    if not wholes or None in wholes:
        return None
    return {whole: place for place, whole in enumerate(wholes)}


def _whole(cell: str) -> int | None:
    value = _number(cell)
    if value is None or not math.isfinite(value) or value != int(value):
        return None
    return int(value) if abs(value) < 1 << 31 else None
