"""What a command says when a package that it needs is not installed."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from outrider.boundary import require
from outrider.errors import PartNotInstalled

PROJECT = Path(__file__).parents[2]


def required() -> list[tuple[str, tuple[str, ...]]]:
    """The arguments of every call of `require` in the command line."""
    found = []
    for path in sorted((PROJECT / "outrider").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if (
                isinstance(node, ast.Call)
                and isinstance(node.func, ast.Name)
                and node.func.id == "require"
            ):
                extra, *modules = (ast.literal_eval(argument) for argument in node.args)
                found.append((extra, tuple(modules)))
    return found


def extras() -> set[str]:
    """The names under [project.optional-dependencies]; Python 3.10 has no reader of TOML."""
    text = (PROJECT / "pyproject.toml").read_text()
    table = text.partition("[project.optional-dependencies]")[2].partition("\n[")[0]
    return set(re.findall(r"^([a-z0-9-]+) = \[", table, re.MULTILINE))


def test_every_command_names_an_extra_that_exists() -> None:
    calls = required()
    assert {"agent", "converter", "demo", "hub", "s3"} <= {extra for extra, _ in calls}
    assert {extra for extra, _ in calls} <= extras()


@pytest.mark.parametrize("extra", sorted({extra for extra, _ in required()}))
def test_a_package_that_is_not_installed_is_named_with_its_extra(extra: str) -> None:
    with pytest.raises(PartNotInstalled) as refused:
        require(extra, "json", "not_there.at_all")
    assert str(refused.value) == (
        f"this command needs not_there, which is not installed: pip install 'outrider[{extra}]'"
    )
