"""Text into HTML: every word that a model, a label or a file brought along goes through `esc`.

Also how figures are written. Pure, and the same on every machine.
"""

from __future__ import annotations

import html
import math
import re
from collections.abc import Sequence

DASH, MINUS, TIMES = "\u2013", "\u2212", "\u00d7"
_CONTROLS = re.compile("[\x00-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
"""What no page may hold, and marks that would turn the text behind them around."""


def esc(text: object) -> str:
    """Safe as text and as a quoted attribute."""
    return html.escape(_CONTROLS.sub("\ufffd", str(text)), quote=True)


def clipped(text: str, limit: int) -> str:
    """At most `limit` characters; the end of a layer's name tells more than its beginning."""
    return text if len(text) <= limit else "…" + text[-(limit - 1) :]


def without_common_path(names: Sequence[str]) -> list[str]:
    """Names without the folders that all of them share, which tell nothing apart."""
    split = [name.split("/") for name in names]
    shared = 0
    while all(len(parts) > shared + 1 for parts in split) and (
        len({parts[shared] for parts in split}) == 1
    ):
        shared += 1
    return ["/".join(parts[shared:]) for parts in split] if len(names) > 1 else list(names)


def percent(value: float | None, digits: int = 2) -> str:
    """`98.50 %`, or a dash for what was not measured."""
    return DASH if value is None else f"{value:.{digits}f} %"


def milliseconds(value: float) -> str:
    """`0.051 ms`."""
    return f"{value:.3f} ms"


def times(ratio: float | None) -> str:
    """`0.25 \u00d7`, or a dash for what was not measured."""
    return DASH if ratio is None else f"{ratio:.2f} {TIMES}"


def decibel(value: float) -> str:
    """`31.2 dB`."""
    return f"{value:.1f} dB"


def size(count: int) -> str:
    """Bytes, in the unit that leaves 1 to 4 digits: `36.2 KiB`."""
    value, unit = float(count), "B"
    for unit in ("B", "KiB", "MiB", "GiB"):
        if value < 1024 or unit == "GiB":
            break
        value /= 1024
    return f"{count} B" if unit == "B" else f"{value:.1f} {unit}"


def points(value: float) -> str:
    """A signed difference in percentage points, with a true minus."""
    rounded = round(value, 2)
    sign = "+" if rounded > 0 else MINUS if rounded < 0 else "±"
    return f"{sign}{abs(rounded):.2f}"


def number(value: float) -> str:
    """Four significant digits."""
    return f"{value:.4g}" if math.isfinite(value) else DASH


def plural(count: int, noun: str) -> str:
    """`1 layer`, `2 layers`."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def table(columns: Sequence[str], rows: Sequence[Sequence[str]], texts: int = 1) -> str:
    """A table that scrolls by itself when it is wide; from column `texts` on it holds numbers.

    Cells are text, not markup.
    """

    def cell(tag: str, place: int, text: str) -> str:
        kind = "" if place < texts else ' class="n"'
        return f"<{tag}{kind}>{esc(text)}</{tag}>"

    head = "".join(cell("th", place, text) for place, text in enumerate(columns))
    body = "".join(
        f"<tr>{''.join(cell('td', place, text) for place, text in enumerate(row))}</tr>"
        for row in rows
    )
    whole = f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody>"
    return f'<div class="wide"><table>{whole}</table></div>'


def section(title: str, *parts: str) -> str:
    """A headed part of the page; the parts are markup. Nothing at all when they are empty."""
    body = "".join(parts)
    return f"<section><h2>{esc(title)}</h2>{body}</section>" if body else ""


def paragraph(text: str, kind: str = "") -> str:
    """A paragraph of text."""
    mark = f' class="{kind}"' if kind else ""
    return f"<p{mark}>{esc(text)}</p>"


def figure(caption: str, picture: str) -> str:
    """A picture (markup) with its caption (text)."""
    return f"<figure><figcaption>{esc(caption)}</figcaption>{picture}</figure>"
