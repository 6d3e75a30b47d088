"""How a job says no: the name of one of the converter's errors, and a sentence with the remedy."""

from __future__ import annotations

import importlib
from types import ModuleType


class Refusal(Exception):
    """The parent raises its error of the name `kind`, with this message."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


def need(extra: str, *modules: str) -> ModuleType:
    """Import `modules`; returns the first. Refuses with the extra that holds them."""
    try:
        found = [importlib.import_module(module) for module in modules]
    except ImportError as error:
        name = (error.name or modules[0]).partition(".")[0]
        raise Refusal(
            "ExtraMissing",
            f"this kind of model needs {name}, which is not installed: pip install"
            f" 'outrider[{extra}]'",
        ) from error
    return found[0]
