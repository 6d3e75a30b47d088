"""What every source of samples hands over, how it is asked, and the bounds that all share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from contract.processing import InputRecipe, Processing
from converter.data.rows import Array, Rows

LABELS = "labels"
MAX_DATA_BYTES = 4 << 30
MAX_ARRAYS = 64


@dataclass(frozen=True)
class Reading:
    """How samples are to be read.

    `processing`: the release's recipes, by which raw files become the network's input.
    `classes`: their names in the order of the model's scores, or none. `label_column`: of a table;
    `labelled`: whether it must be there, as where the samples evaluate. `spool`: the folder where
    samples are kept that have to be unpacked; None: that of temporary files. `columns`: what a
    table without a recipe must hold, in the order that the network takes, or none where the table
    itself says; `columns_of`: who named them.
    """

    processing: Processing | None = None
    classes: tuple[str, ...] = ()
    label_column: str | None = None
    labelled: bool = True
    spool: Path | None = None
    columns: tuple[str, ...] = ()
    columns_of: str = ""

    def recipe(self, name: str) -> InputRecipe | None:
        """The recipe of the input `name`."""
        recipes = self.processing.inputs if self.processing is not None else []
        return next((recipe for recipe in recipes if recipe.input == name), None)


@dataclass(frozen=True)
class Raw:
    """Arrays by name as they were read, not yet compared with the model's inputs.

    `names`: of each sample, where it has one (a file, a line). `classes`: names that the source
    itself gave to the numbers in `labels`. `columns`: of a table, in the arrays' order.
    """

    arrays: Mapping[str, Array | Rows]
    labels: Array | Rows | None = None
    names: tuple[str, ...] = ()
    classes: tuple[str, ...] = ()
    columns: tuple[str, ...] = ()
