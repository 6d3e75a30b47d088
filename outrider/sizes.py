"""Amounts of data as people write them: `500kB`, `20MB`, `1.5GB`, `64MiB`. Pure."""

from __future__ import annotations

import re
from decimal import Decimal

UNITS = {
    "B": 1,
    "kB": 10**3,
    "MB": 10**6,
    "GB": 10**9,
    "KiB": 1 << 10,
    "MiB": 1 << 20,
    "GiB": 1 << 30,
}
MAX_BYTES = 10**12
_WHOLE = re.compile(r"(\d{1,13}(?:\.\d{1,6})?) ?(B|kB|KB|MB|GB|KiB|MiB|GiB)?\Z", re.ASCII)


def parse_size(text: str) -> int:
    """`20MB` -> 20000000 bytes; raises `ValueError` in words for anything else."""
    found = _WHOLE.match(text)
    if found is None:
        raise ValueError(f"{text[:40]!r} is not an amount of data: write 500kB, 20MB or 1.5GB")
    unit = "kB" if found[2] == "KB" else found[2] or "B"
    size = Decimal(found[1]) * UNITS[unit]
    if size > MAX_BYTES or size != int(size):
        raise ValueError(f"{text[:40]!r} is not a whole number of bytes up to a terabyte")
    return int(size)


def format_size(size: int) -> str:
    """20000000 -> `20 MB`; rounded to three figures."""
    for unit in ("GB", "MB", "kB"):
        # What would be rounded to 1000 of the next smaller unit is one of this.
        if size >= 0.9995 * UNITS[unit]:
            value = size / UNITS[unit]
            return f"{value:.0f} {unit}" if value >= 999.5 else f"{value:.3g} {unit}"
    return f"{size} B"
