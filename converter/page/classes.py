"""The part of the page on classes: confusion matrix, each class before and after, the mistakes."""

from __future__ import annotations

from converter.confusion import class_name, mistakes, recalls
from converter.page.heatmap import heatmap
from converter.page.markup import DASH, figure, paragraph, points, section, table
from converter.page.pictures import Move, moves
from converter.report import Confusion, VariantReport

MAX_CLASSES = 40
_MISTAKES = 10


def classes_section(variant: VariantReport, float32: Confusion | None, labels: list[str]) -> str:
    """Empty where there were no labels."""
    found = variant.confusion
    if found is None or not found.cells:
        return ""
    names = [class_name(labels, place) for place in range(min(found.classes, MAX_CLASSES))]
    picture = heatmap(f"confusion matrix of {variant.name}", found, names)
    figures = [figure("Rows: labels; columns: answers", picture)] if picture else []
    rows = _moves(found, float32, labels)
    if rows:
        low = min(min(row.before, row.after) for row in rows)
        title = f"Right, class by class: float32 (hollow) to {variant.name} (full)"
        figures.append(figure(title, moves(title, rows, max(0.0, low - 2.0), 100.0)))
    return section(
        f"Classes: {variant.name}",
        f'<div class="grid">{"".join(figures)}</div>',
        _mistakes(found, float32, labels),
    )


def _moves(found: Confusion, float32: Confusion | None, labels: list[str]) -> list[Move]:
    """The classes that lost most first; all of them where they can be drawn."""
    before, after = recalls(float32) if float32 is not None else {}, recalls(found)
    rows = [
        Move(
            class_name(labels, label),
            before[label].percent,
            now.percent,
            points(now.percent - before[label].percent),
        )
        for label, now in after.items()
        if label in before
    ]
    if len(rows) <= 16:
        return rows
    return sorted(rows, key=lambda row: row.after - row.before)[:16]


def _mistakes(found: Confusion, float32: Confusion | None, labels: list[str]) -> str:
    cells = mistakes(found)
    if not cells:
        return paragraph("No sample was answered wrong.", "muted")
    known = {(c.label, c.answer): c.count for c in float32.cells} if float32 is not None else {}
    rows = [
        (
            class_name(labels, cell.label),
            class_name(labels, cell.answer),
            f"{cell.count:,}",
            f"{known.get((cell.label, cell.answer), 0):,}" if float32 is not None else DASH,
        )
        for cell in cells[:_MISTAKES]
    ]
    return table(("label", "answered as", "samples", "by float32"), rows, texts=2)
