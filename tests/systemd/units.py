"""The unit files as tests see them: their settings, and their command lines with paths replaced.

Reads only the little of the syntax that our own units use: sections, comments, `key=value`, and
keys that stand several times.
"""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "systemd"
UNITS = ("outrider-agent", "outrider-inference", "outrider-hub", "outrider-broker")
DEVICE_UNITS = UNITS[:2]


@dataclass(frozen=True)
class Unit:
    """One .service file."""

    name: str
    text: str

    def all(self, section: str, key: str) -> list[str]:
        """Every value of a key, in order."""
        found: list[str] = []
        inside = ""
        for line in self.text.splitlines():
            if line.startswith("["):
                inside = line.strip("[]")
            elif inside == section and line.partition("=")[0] == key:
                found.append(line.partition("=")[2])
        return found

    def one(self, section: str, key: str, default: str = "") -> str:
        """The value of a key that stands once, else `default`."""
        found = self.all(section, key)
        assert len(found) <= 1, f"{self.name}: {key} stands {len(found)} times"
        return found[0] if found else default

    def words(self, section: str, key: str) -> set[str]:
        """All words of all values of a key."""
        return {word for value in self.all(section, key) for word in value.split()}

    def command(self, **replaced: str) -> list[str]:
        """ExecStart= as arguments, each text in `replaced` (see `paths`) put in."""
        line = self.one("Service", "ExecStart")
        for variable, value in replaced.items():
            line = line.replace("${" + variable + "}", value)
        return shlex.split(line)


def read_unit(name: str) -> Unit:
    """One of `UNITS`."""
    return Unit(name, (FOLDER / f"{name}.service").read_text(encoding="utf-8"))


def seconds(text: str) -> int:
    """Our units give times in plain seconds."""
    return int(text)
