"""Durations as people write them: `90s`, `10m`, `1h`, `2d`, `1h30m`. Pure."""

from __future__ import annotations

import re

UNITS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}
MAX_SECONDS = 30 * 86_400
"""As the hub bounds a soak, a deadline and how long an enrolment file is good."""
_PART = re.compile(r"(\d{1,7})([smhd])")
_WHOLE = re.compile(r"^(\d{1,7}[smhd]){1,4}\Z")


def parse_duration(text: str) -> int:
    """`1h30m` -> 5400 seconds; raises `ValueError` in words for anything else."""
    if not _WHOLE.match(text):
        raise ValueError(f"{text[:40]!r} is not a duration: write 90s, 10m, 1h, 2d or 1h30m")
    seconds = sum(int(number) * UNITS[unit] for number, unit in _PART.findall(text))
    if seconds > MAX_SECONDS:
        raise ValueError(f"{text[:40]!r} is longer than {MAX_SECONDS // 86_400} days")
    return seconds


def format_duration(seconds: float) -> str:
    """5400 -> `1h30m`; below a minute with one decimal."""
    if seconds < 60:
        return f"{seconds:.1f}s" if seconds % 1 else f"{int(seconds)}s"
    rest, parts = int(seconds), []
    for unit in ("d", "h", "m", "s"):
        count, rest = divmod(rest, UNITS[unit])
        if count:
            parts.append(f"{count}{unit}")
    return "".join(parts)
