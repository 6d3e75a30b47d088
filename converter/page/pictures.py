"""Small charts as inline SVG: pure functions from figures to markup.

Each is 360 units wide, so that its text can be read on a phone, and takes its colours from the
page's classes, so that it follows light and dark. Coordinates have one decimal: equal figures give
equal bytes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from converter.page.markup import clipped, esc

WIDTH = 360
_ROW, _LABEL, _VALUE = 24, 104, 66
_TRACK = WIDTH - _LABEL - _VALUE
_SHORT, _LONG, _TALL_ROW, _COLUMNS = 17, 50, 33, 110


@dataclass(frozen=True)
class Bar:
    """One row: a bar of `value`, with `text` behind it. `tone` is a class of the page's style."""

    label: str
    value: float
    text: str
    tone: str = "a"


@dataclass(frozen=True)
class Span:
    """Two ranges of one quantity: what was expected, and what was seen."""

    label: str
    low: float
    high: float
    seen_low: float
    seen_high: float
    text: str
    tone: str = "a"


@dataclass(frozen=True)
class Move:
    """A value that went from `before` to `after`."""

    label: str
    before: float
    after: float
    text: str


def bars(title: str, rows: Sequence[Bar], low: float = 0.0, high: float | None = None) -> str:
    """Horizontal bars over [low, high]; `high` is the largest value unless given."""
    top = max((row.value for row in rows), default=0.0) if high is None else high
    if any(len(row.label) > _SHORT for row in rows):
        return _tall_bars(title, rows, low, top)
    parts = []
    for place, row in enumerate(rows):
        y = place * _ROW
        width = _TRACK * share(row.value, low, top)
        parts.append(_row_text(row.label, row.text, y))
        parts.append(_rect("track", _LABEL, y + 5, _TRACK, 14))
        parts.append(_rect(row.tone, _LABEL, y + 5, max(width, 1.0), 14))
    return svg(title, len(rows) * _ROW, parts)


def _tall_bars(title: str, rows: Sequence[Bar], low: float, high: float) -> str:
    """Names that are long, as those of layers are, stand above their bars."""
    parts = []
    for place, row in enumerate(rows):
        y = place * _TALL_ROW
        name = f"<title>{esc(row.label)}</title>{esc(clipped(row.label, _LONG))}"
        parts.append(f'<text x="0" y="{y + 12}">{name}</text>')
        parts.append(_text(WIDTH, y + 12, row.text, "end", "strong"))
        parts.append(_rect("track", 0, y + 17, WIDTH, 9))
        parts.append(_rect(row.tone, 0, y + 17, max(WIDTH * share(row.value, low, high), 1.0), 9))
    return svg(title, len(rows) * _TALL_ROW, parts)


def columns(title: str, rows: Sequence[Bar], low: float, high: float) -> str:
    """Upright bars in a row, as many as there are; names and figures show when pointed at."""
    step = WIDTH / max(len(rows), 1)
    parts = [_rect("track", 0, 0, WIDTH, _COLUMNS)]
    for place, row in enumerate(rows):
        height = max(_COLUMNS * share(row.value, low, high), 1.0)
        words = esc(f"{row.label}: {row.text}")
        parts.append(
            f'<rect class="{row.tone}" x="{place * step:.2f}" y="{_n(_COLUMNS - height)}"'
            f' width="{max(step * 0.82, 0.2):.2f}" height="{_n(height)}">'
            f"<title>{words}</title></rect>"
        )
    return svg(title, _COLUMNS, parts)


def spans(title: str, rows: Sequence[Span]) -> str:
    """Per row, on a scale of its own: the expected range as a band, the seen one as a line."""
    parts = []
    for place, row in enumerate(rows):
        y = place * _ROW
        low, high = min(row.low, row.seen_low), max(row.high, row.seen_high)

        def at(value: float, low: float = low, high: float = high) -> float:
            return _LABEL + _TRACK * share(value, low, high)

        band, line = (at(row.low), at(row.high)), (at(row.seen_low), at(row.seen_high))
        parts.append(_row_text(row.label, row.text, y))
        parts.append(_rect("track", _LABEL, y + 5, _TRACK, 14))
        parts.append(_rect("band", band[0], y + 5, max(band[1] - band[0], 1.0), 14))
        parts.append(_rect(row.tone, line[0], y + 10, max(line[1] - line[0], 2.0), 4))
    return svg(title, len(rows) * _ROW, parts)


def moves(title: str, rows: Sequence[Move], low: float, high: float) -> str:
    """Per row a hollow dot (before), a full dot (after) and the way between them."""
    parts = []
    for place, row in enumerate(rows):
        y = place * _ROW + 12
        before, after = (
            _LABEL + 5 + (_TRACK - 10) * share(value, low, high)
            for value in (row.before, row.after)
        )
        tone = "bad" if row.after < row.before else "a"
        parts.append(_row_text(row.label, row.text, y - 12))
        parts.append(_line("rule", _LABEL, y, _LABEL + _TRACK, y))
        parts.append(_line(f"way {tone}", before, y, after, y))
        parts.append(f'<circle class="hollow" cx="{_n(before)}" cy="{y}" r="4"/>')
        parts.append(f'<circle class="{tone}" cx="{_n(after)}" cy="{y}" r="4"/>')
    return svg(title, len(rows) * _ROW, parts)


def gate(title: str, baseline: float, measured: float, max_drop: float, passed: bool) -> str:
    """The float model's figure, the loss that is allowed, and where the variant came to lie."""
    reach = max(max_drop, abs(baseline - measured), 0.05) * 1.35
    low, high = baseline - reach, baseline + max(reach * 0.35, measured - baseline)

    def at(value: float) -> float:
        return 8 + (WIDTH - 16) * share(value, low, high)

    limit, mark, zero = at(baseline - max_drop), at(measured), at(baseline)
    tone = "good" if passed else "bad"
    parts = [
        _rect("track", 8, 26, WIDTH - 16, 12),
        _rect("band", limit, 26, max(zero - limit, 1.0), 12),
        _line("axis", zero, 20, zero, 44),
        _line("axis dashed", limit, 20, limit, 44),
        f'<circle class="{tone}" cx="{_n(mark)}" cy="32" r="7"/>',
        _text(mark, 14, f"measured {measured:.2f}", _anchor(mark), "strong"),
        _text(limit, 58, f"limit {baseline - max_drop:.2f}", _anchor(limit - 60)),
        _text(zero, 58, f"float32 {baseline:.2f}", _anchor(zero + 40)),
    ]
    return svg(title, 64, parts)


def parts_of(title: str, pieces: Sequence[tuple[str, int, str]]) -> str:
    """One bar cut into (label, count, tone), with its legend underneath."""
    total = sum(count for _, count, _ in pieces)
    x, shapes = 0.0, []
    for place, (label, count, tone) in enumerate(pieces):
        width = WIDTH * share(count, 0, total)
        shapes.append(_rect(tone, x, 2, width, 20))
        left = place * WIDTH / max(len(pieces), 1)
        shapes.append(_rect(tone, left, 32, 10, 10))
        shapes.append(_text(left + 15, 41, f"{label}: {count:,}"))
        x += width
    return svg(title, 46, shapes)


def svg(title: str, height: float, parts: Sequence[str], width: float = WIDTH) -> str:
    """The picture as a whole; the title is what a screen reader says."""
    return (
        f'<svg viewBox="0 0 {_n(width)} {_n(max(height, 1))}" role="img"'
        f' aria-label="{esc(title)}">{"".join(parts)}</svg>'
    )


def share(value: float, low: float, high: float) -> float:
    """Where `value` lies between `low` and `high`, 0..1, whatever is thrown at it."""
    # Halved first: the distance between two finite numbers need not be finite.
    reach = high / 2 - low / 2
    if not (math.isfinite(value) and math.isfinite(reach)) or reach <= 0:
        return 0.0
    return min(max((value / 2 - low / 2) / reach, 0.0), 1.0)


def _row_text(label: str, text: str, y: float) -> str:
    name = f"<title>{esc(label)}</title>{esc(clipped(label, _SHORT))}"
    return (
        f'<text x="{_LABEL - 6}" y="{_n(y + 16)}" text-anchor="end">{name}</text>'
        f'<text class="strong" x="{WIDTH}" y="{_n(y + 16)}" text-anchor="end">{esc(text)}</text>'
    )


def _rect(tone: str, x: float, y: float, width: float, height: float) -> str:
    return (
        f'<rect class="{tone}" x="{_n(x)}" y="{_n(y)}" width="{_n(width)}" height="{_n(height)}"'
        ' rx="2"/>'
    )


def _line(tone: str, x1: float, y1: float, x2: float, y2: float) -> str:
    return f'<line class="{tone}" x1="{_n(x1)}" y1="{_n(y1)}" x2="{_n(x2)}" y2="{_n(y2)}"/>'


def _text(x: float, y: float, text: str, anchor: str = "start", tone: str = "") -> str:
    mark = f' class="{tone}"' if tone else ""
    return f'<text{mark} x="{_n(x)}" y="{_n(y)}" text-anchor="{anchor}">{esc(text)}</text>'


def _anchor(x: float) -> str:
    """Text grows towards the middle, so that it is not cut at the edges."""
    return "start" if x < WIDTH / 3 else "end" if x > 2 * WIDTH / 3 else "middle"


def _n(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")
