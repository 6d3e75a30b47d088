"""What the documentation names exists: pages, files, modules, tests, commands and their options."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from contract.deployments import Cause, Outcome
from contract.messages import ProbationPolicy
from contract.trust import (
    DAY_MS,
    FAMILY_LIFETIME_MS,
    LIFETIME_MS,
    ROOT,
    SNAPSHOT,
    TARGETS,
    TIMESTAMP,
)
from fleet import assignments, ca, enrolment
from fleet.trust.freshness import RESIGN_AFTER_MS
from outrider.commands import app
from tests.docs.pages import (
    PAGES,
    PROJECT,
    anchors,
    blocks,
    calls,
    command_lines,
    inline_code,
    links,
    name,
)

ROOMS = ("contract", "model", "converter", "agent", "fleet", "outrider", "tests", "docs", "systemd")
FOLDER = PROJECT / "docs"
HOUR_MS = 3_600_000
_TEST = re.compile(r"\btest_[a-z0-9_]+\b")
_FILE = re.compile(rf"^(?:{'|'.join(ROOMS)})(?!/v1)(?:/[\w.-]+)+/?$")
_ALTERNATIVES = re.compile(r"[a-z]+(\|[a-z]+)+")

every_page = pytest.mark.parametrize("page", PAGES, ids=name)


@functools.cache
def names_of_tests() -> set[str]:
    text = "\n".join(path.read_text() for path in (PROJECT / "tests").rglob("test_*.py"))
    files = {path.stem for path in (PROJECT / "tests").rglob("test_*.py")}
    return files | set(re.findall(r"def (test_[a-z0-9_]+)\(", text))


@every_page
def test_every_link_leads_somewhere(page: Path) -> None:
    for link in links(page):
        path, _, anchor = link.partition("#")
        if re.match(r"https?:", link):
            continue
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


@every_page
def test_every_test_that_is_named_exists(page: Path) -> None:
    for code in inline_code(page):
        missing = set(_TEST.findall(code)) - names_of_tests()
        assert not missing, missing


@every_page
def test_every_file_that_is_named_exists(page: Path) -> None:
    for code in inline_code(page):
        if _FILE.match(code):
            assert (PROJECT / code).exists(), code


@every_page
def test_every_command_parses(page: Path) -> None:
    for arguments, whole in command_lines(page):
        parse(arguments, whole)


@every_page
def test_commands_of_make_exist(page: Path) -> None:
    targets = set(re.findall(r"^([a-z]+):", (PROJECT / "Makefile").read_text(), flags=re.M))
    for code in [*inline_code(page), *blocks(page)]:
        assert set(re.findall(r"^make ([a-z]+)\b", code, flags=re.M)) <= targets, code


def test_operations_explains_every_cause() -> None:
    page = (FOLDER / "operations.md").read_text()
    table = page.partition("| cause |")[2].partition("\n\n")[0]
    explained = set(re.findall(r"`([a-z-]+)`", table))
    assert {cause.value for cause in Cause} - explained == {"operator", "internal"}


def test_operations_tells_the_lifetimes_that_the_programs_use() -> None:
    days = {role: ms // DAY_MS for role, ms in LIFETIME_MS.items()}
    assigned = assignments.LIFETIME_MS // DAY_MS
    reissued = assigned - assignments.REISSUE_MS // DAY_MS
    said = [
        f"| timestamp, snapshot | {days[TIMESTAMP]} day, {days[SNAPSHOT]} days | the hub, every"
        f" {RESIGN_AFTER_MS // HOUR_MS} hours |",
        f"| a family's metadata | {FAMILY_LIFETIME_MS // DAY_MS} days |",
        f"| targets | {days[TARGETS]} days |",
        f"| root | {days[ROOT]} days |",
        f"| a device's certificate | {ca.DEVICE_DAYS} days |",
        f"| the hub's and the broker's certificates | {ca.SERVER_DAYS} days |",
        f"| an assignment | {assigned} days | the hub, every {reissued} days",
        f"| an enrolment file | {enrolment.LIFETIME_MS // HOUR_MS} hour |",
    ]
    page = (FOLDER / "operations.md").read_text()
    for line in said:
        assert line in page, line


def test_the_readme_tells_how_much_proof_a_commit_needs() -> None:
    needed = ProbationPolicy().min_inferences
    assert f"once it has answered {needed} requests well" in (PROJECT / "README.md").read_text()


def test_the_glossary_knows_every_outcome() -> None:
    page = (FOLDER / "glossary.md").read_text()
    line = next(line for line in page.splitlines() if line.startswith("| **Outcome**"))
    assert all(outcome.value in line for outcome in Outcome)


def test_the_glossary_is_in_order_and_names_each_word_once() -> None:
    page = (FOLDER / "glossary.md").read_text()
    words = [word.lower() for word in re.findall(r"^\| \*\*([^*]+)\*\*", page, flags=re.M)]
    assert words == sorted(set(words))


def test_the_table_of_decisions_is_whole() -> None:
    folder = FOLDER / "adr"
    records = {path.name for path in folder.glob("0*.md")}
    assert records == {link for link in links(folder / "README.md") if link.startswith("0")}
    for record in sorted(records):
        text = (folder / record).read_text()
        assert text.startswith(f"# {record[:4]}: ")
        for part in ("Context", "Decision", "Consequences", "Rejected"):
            assert f"**{part}.**" in text, f"{record} says nothing under {part}"


def parse(arguments: list[str], whole: bool) -> None:
    """Walk to the command, then have it parse the rest; raises what the command line would say."""
    # Any: typer carries a click of its own, whose classes it does not export.
    command: Any = typer.main.get_command(app)
    rest = list(arguments)
    while hasattr(command, "commands") and rest:
        word = rest.pop(0)
        if word in ("--help", "--version"):
            return
        if _ALTERNATIVES.fullmatch(word):
            assert set(word.split("|")) <= command.commands.keys(), arguments
            return
        assert word in command.commands, f"outrider {' '.join(arguments)}: no {word}"
        command = command.commands[word]
    if hasattr(command, "commands"):
        assert not whole, f"outrider {' '.join(arguments)} is not a whole command"
        return
    # Inline code may leave out what a sentence does not need: then only its options are checked.
    command.make_context("outrider", rest, resilient_parsing=not whole)


def every_command(command: Any) -> Iterator[Any]:
    for child in getattr(command, "commands", {}).values():
        yield from every_command(child)
    yield command


def test_the_examples_in_the_help_parse() -> None:
    for command in every_command(typer.main.get_command(app)):
        for arguments in calls(command.help or ""):
            parse(arguments, whole=True)


@pytest.mark.parametrize(
    "arguments",
    [["no-such-verb"], ["rollout"], ["publish"], ["doctor", "--no-such-option"], ["doctor", "x"]],
)
def test_a_command_line_that_is_wrong_would_be_found(arguments: list[str]) -> None:
    with pytest.raises((AssertionError, typer.BadParameter.__mro__[1])):
        parse(arguments, whole=True)
