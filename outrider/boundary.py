"""Turns every expected error into one line and exit code 1; what is left is a defect, and shows.

Each room has one family of errors, named for the fact and worded for a person. A family is looked
up only where its room is loaded: an error cannot come from a room that is not.
"""

from __future__ import annotations

import importlib
import sys

from outrider.errors import CommandFailed, PartNotInstalled

FAMILIES = {
    "contract.errors": "ContractError",
    "model.errors": "ModelError",
    "converter.errors": "ConvertError",
    "converter.trust.errors": "SigningError",
    "fleet.errors": "FleetError",
    "agent.errors": "DeviceError",
}
"""Module -> the root of its family of errors."""


def expected(error: BaseException) -> bool:
    """Whether this error is one that a command may end with."""
    if isinstance(error, CommandFailed | OSError):
        return True
    roots = (
        getattr(sys.modules[module], name)
        for module, name in FAMILIES.items()
        if module in sys.modules
    )
    return any(isinstance(error, root) for root in roots)


def one_line(error: BaseException) -> str:
    """The error's message without line breaks; an OSError as `file: reason`."""
    if isinstance(error, OSError) and error.strerror:
        where = f"{error.filename}: " if error.filename else ""
        return f"{where}{error.strerror}"
    return " ".join(str(error).split()) or type(error).__name__


def require(extra: str, *modules: str) -> None:
    """Raise `PartNotInstalled`, naming the extra, unless the modules that it brings are here."""
    for module in modules:
        try:
            importlib.import_module(module)
        except ImportError as error:
            raise PartNotInstalled(
                f"this command needs {module.partition('.')[0]}, which is not installed:"
                f" pip install 'outrider[{extra}]'"
            ) from error
