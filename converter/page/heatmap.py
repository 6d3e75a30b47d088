"""The confusion matrix as a picture: pure, from cells to SVG.

Rows are labels, columns are answers. What is right is shaded apart from what is wrong, each on a
scale of its own, or the few mistakes of a good model could not be seen.
"""

from __future__ import annotations

import math

from converter.page.markup import clipped, esc, plural
from converter.page.pictures import WIDTH, svg
from converter.report import Confusion

MAX_CLASSES = 40
"""More squares than this are too small to read."""
_LEFT = 72.0
_STEPS = 9


def heatmap(title: str, confusion: Confusion, names: list[str]) -> str:
    """`names` has one name a class. Empty when there are too many classes to draw."""
    count = confusion.classes
    if not 2 <= count <= MAX_CLASSES:
        return ""
    side = (WIDTH - _LEFT) / count
    cells = [c for c in confusion.cells if 0 <= c.label < count and 0 <= c.answer < count]
    right = max((c.count for c in cells if c.label == c.answer), default=1)
    wrong = max((c.count for c in cells if c.label != c.answer), default=1)
    parts = [
        f'<rect class="track" x="{_LEFT:.0f}" y="0" width="{WIDTH - _LEFT:.1f}"'
        f' height="{WIDTH - _LEFT:.1f}"/>'
    ]
    for cell in cells:
        hit = cell.label == cell.answer
        shade = _shade(cell.count, right if hit else wrong)
        x, y = _LEFT + cell.answer * side, cell.label * side
        words = f"{names[cell.label]} answered as {names[cell.answer]}: {cell.count:,}"
        parts.append(
            f'<rect class="{"hit" if hit else "miss"} s{shade}" x="{x:.1f}" y="{y:.1f}"'
            f' width="{side - 0.6:.1f}" height="{side - 0.6:.1f}">'
            f"<title>{esc(words)}</title></rect>"
        )
        if count <= 14:
            deep = " deep" if shade > _STEPS // 2 else ""
            parts.append(
                f'<text class="cell{deep}" x="{x + side / 2:.1f}" y="{y + side / 2 + 3.5:.1f}"'
                f' text-anchor="middle">{cell.count}</text>'
            )
    parts += _names(names, side)
    tail = 58.0 if _long(names) else 16.0
    label = f"{title}: {plural(count, 'class').replace('classs', 'classes')}"
    return svg(label, WIDTH - _LEFT + tail, parts)


def _names(names: list[str], side: float) -> list[str]:
    step = max(1, math.ceil(11 / side))
    parts = []
    bottom = WIDTH - _LEFT
    for place in range(0, len(names), step):
        middle = place * side + side / 2
        name = esc(clipped(names[place], 11))
        parts.append(
            f'<text class="cell" x="{_LEFT - 4:.1f}" y="{middle + 3.5:.1f}" text-anchor="end">'
            f"{name}</text>"
        )
        x = _LEFT + middle
        if _long(names):
            turned = f' transform="rotate(-60 {x:.1f} {bottom + 10:.1f})" text-anchor="end"'
            parts.append(
                f'<text class="cell" x="{x:.1f}" y="{bottom + 10:.1f}"{turned}>{name}</text>'
            )
        else:
            parts.append(
                f'<text class="cell" x="{x:.1f}" y="{bottom + 12:.1f}" text-anchor="middle">'
                f"{name}</text>"
            )
    return parts


def _long(names: list[str]) -> bool:
    return max(map(len, names), default=0) > 2


def _shade(count: int, most: int) -> int:
    """1 to `_STEPS`."""
    if most <= 0:
        return 1
    return min(max(math.ceil(_STEPS * count / most), 1), _STEPS)
