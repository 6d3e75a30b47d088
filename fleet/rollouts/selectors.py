"""The selector language: which devices an operator means. Pure; parsing bounded by length.

`all`, or conditions joined by commas, all of which must hold: `class=pi-5`, `name=cam-*`,
`site=lyon`. A `*` stands for any characters, none included.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from fleet.rollouts.errors import InvalidSelector

MAX_CHARS = 500
MAX_CONDITIONS = 16
_KEY = re.compile(r"^[a-z0-9][a-z0-9_.-]{0,62}\Z")
_PATTERN = re.compile(r"^[A-Za-z0-9_.*-]{1,63}\Z")


@dataclass(frozen=True)
class Subject:
    """A device as selectors see it."""

    name: str
    device_class: str
    labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Selector:
    """Conditions that must all hold; none: every device."""

    text: str
    conditions: tuple[tuple[str, str], ...] = ()

    def matches(self, subject: Subject) -> bool:
        """Whether every condition holds. A label that a device lacks matches nothing."""
        return all(_holds(key, pattern, subject) for key, pattern in self.conditions)


def parse_selector(text: str) -> Selector:
    """Raises `InvalidSelector` with one line that names the part that is wrong."""
    if len(text) > MAX_CHARS:
        raise InvalidSelector(f"a selector of {len(text)} characters; at most {MAX_CHARS}")
    if text.strip() == "all":
        return Selector("all")
    parts = [part.strip() for part in text.split(",")]
    if len(parts) > MAX_CONDITIONS:
        raise InvalidSelector(f"{len(parts)} conditions in the selector; at most {MAX_CONDITIONS}")
    conditions = tuple(_condition(part, text) for part in parts)
    return Selector(",".join(f"{key}={pattern}" for key, pattern in conditions), conditions)


def _condition(part: str, whole: str) -> tuple[str, str]:
    if part == "all":
        raise InvalidSelector("`all` stands alone in a selector: leave the other conditions out")
    key, equals, pattern = part.partition("=")
    if not equals:
        raise InvalidSelector(
            f"selector {whole[:80]!r}: {part[:80]!r} is not of the form key=value;"
            " use all, class=..., name=..., or a label"
        )
    if not _KEY.match(key):
        raise InvalidSelector(f"selector: {key[:80]!r} is not the name of a label")
    if not _PATTERN.match(pattern):
        raise InvalidSelector(
            f"selector: {key}={pattern[:80]!r} is not a value;"
            " use letters, digits, '_', '.', '-', '*'"
        )
    return key, pattern


def _holds(key: str, pattern: str, subject: Subject) -> bool:
    if key == "name":
        return _like(pattern, subject.name)
    if key == "class":
        return _like(pattern, subject.device_class)
    value = subject.labels.get(key)
    return value is not None and _like(pattern, value)


def _like(pattern: str, value: str) -> bool:
    """Each piece between stars at its leftmost place: linear, whatever the pattern."""
    head, *pieces = pattern.split("*")
    if not pieces:
        return value == head
    *middle, tail = pieces
    if not value.startswith(head) or len(value) < len(head) + len(tail):
        return False
    at, end = len(head), len(value) - len(tail)
    for piece in middle:
        at = value.find(piece, at, end)
        if at < 0:
            return False
        at += len(piece)
    return value.endswith(tail)
