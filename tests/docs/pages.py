"""The documentation as tests see it: pages, links, inline code, fenced blocks, command lines.

Knows the little Markdown that our pages use.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

PROJECT = Path(__file__).parents[2]
PAGES = sorted(
    [*PROJECT.glob("*.md"), *(PROJECT / "docs").rglob("*.md"), *PROJECT.glob("examples/*/*.md")]
)

_FENCE = re.compile(r"^ *```[a-z]*\n(.*?)^ *```$", flags=re.M | re.S)
_LINK = re.compile(r"\[[^\]]+\]\(([^)\s]+)\)")
_CALL = re.compile(r"outrider [a-z]")
_INLINE = re.compile(r"`([^`\n]+)`")


def name(page: Path) -> str:
    """As pytest shows it."""
    return str(page.relative_to(PROJECT))


def links(page: Path) -> list[str]:
    """Targets of links outside of code."""
    return _LINK.findall(_FENCE.sub("", page.read_text(encoding="utf-8")))


def inline_code(page: Path) -> list[str]:
    """What stands between single backticks, outside of blocks."""
    return _INLINE.findall(_FENCE.sub("", page.read_text(encoding="utf-8")))


def blocks(page: Path) -> list[str]:
    """The content of fenced blocks."""
    return _FENCE.findall(page.read_text(encoding="utf-8"))


def anchors(page: Path) -> set[str]:
    """The ids that headings get."""
    found = re.findall(r"^#+ (.+)$", _FENCE.sub("", page.read_text(encoding="utf-8")), flags=re.M)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in found}


def command_lines(page: Path) -> Iterator[tuple[list[str], bool]]:
    """Every call of `outrider`: its arguments, and whether the line is a whole one.

    A whole line stands in a block; inline code may leave required arguments out.
    """
    for block in blocks(page):
        for arguments in calls(block):
            yield arguments, True
    for code in inline_code(page):
        if code.startswith("outrider "):
            yield shlex.split(code)[1:], False


def calls(text: str) -> Iterator[list[str]]:
    """The arguments of each line that calls `outrider`, perhaps as another user."""
    for line in text.replace("\\\n", " ").splitlines():
        words = shlex.split(line, comments=True) if _CALL.search(line) else []
        programs = [n for n, word in enumerate(words) if word.rpartition("/")[2] == "outrider"]
        for start in programs:
            if start == 0 or words[start - 1] == "--":
                yield words[start + 1 :]
                break
