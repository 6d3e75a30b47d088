"""The pictures are well-formed, stay inside of their frame, and survive any figure."""

from __future__ import annotations

import math
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from converter.confusion import confusion_of
from converter.page.heatmap import MAX_CLASSES, heatmap
from converter.page.pictures import (
    WIDTH,
    Bar,
    Move,
    Span,
    bars,
    columns,
    gate,
    moves,
    parts_of,
    share,
    spans,
)
from converter.report import Confusion, ConfusionCell

ANY = st.floats(allow_nan=True, allow_infinity=True)


def drawn(markup: str) -> ElementTree.Element:
    """The picture as XML, every shape within its frame."""
    root = ElementTree.fromstring(markup)  # noqa: S314 - our own markup, just made
    _, _, width, height = map(float, root.attrib["viewBox"].split())
    for shape in root.iter("rect"):
        x, y, w, h = (float(shape.attrib[key]) for key in ("x", "y", "width", "height"))
        assert min(x, y, w, h) >= 0
        assert x + w <= width + 2.1
        assert y + h <= height + 0.1
    for dot in root.iter("circle"):
        assert 0 <= float(dot.attrib["cx"]) <= width
    return root


def widths(root: ElementTree.Element, tone: str) -> list[float]:
    return [float(r.attrib["width"]) for r in root.iter("rect") if r.attrib["class"] == tone]


def test_a_bar_is_as_long_as_its_value() -> None:
    found = widths(drawn(bars("t", [Bar("x", 100, "100"), Bar("y", 50, "50")])), "a")
    assert found[0] == pytest.approx(2 * found[1])


def test_long_names_stand_above_their_bars_and_whole_in_the_title() -> None:
    name = "model/" + "block/" * 30 + "conv"
    root = drawn(bars("t", [Bar(name, 1, "1")]))
    assert [title.text for title in root.iter("title")] == [name]
    shown = next(root.iter("text"))
    assert len("".join(shown.itertext())) < len(name) + 60


@given(st.lists(st.tuples(ANY, ANY, ANY, ANY), max_size=5), ANY, ANY)
def test_no_figure_breaks_a_picture(
    rows: list[tuple[float, float, float, float]], low: float, high: float
) -> None:
    drawn(bars("t", [Bar("x", row[0], "") for row in rows], low, high))
    drawn(bars("t", [Bar("x" * 40, row[0], "") for row in rows], low, high))
    drawn(columns("t", [Bar("x", row[0], "") for row in rows], low, high))
    drawn(spans("t", [Span("x", *row, "") for row in rows]))
    drawn(moves("t", [Move("x", row[0], row[1], "") for row in rows], low, high))


@given(ANY, ANY, ANY)
def test_a_share_lies_between_nothing_and_all(value: float, low: float, high: float) -> None:
    assert 0.0 <= share(value, low, high) <= 1.0


def test_a_range_beyond_what_floats_can_subtract_still_has_a_middle() -> None:
    assert share(0.0, -1.7e308, 1.7e308) == 0.5


@given(ANY, ANY, ANY, st.booleans())
def test_any_gate_can_be_drawn(base: float, measured: float, drop: float, passed: bool) -> None:
    drawn(gate("gate", base, measured, drop, passed))


def test_the_gate_shows_the_model_between_limit_and_float() -> None:
    root = drawn(gate("gate", 91.5, 91.2, 1.0, True))
    lines = sorted(float(line.attrib["x1"]) for line in root.iter("line"))
    (dot,) = root.iter("circle")
    assert lines[0] < float(dot.attrib["cx"]) < lines[1]
    assert dot.attrib["class"] == "good"


def test_the_pieces_of_a_whole_fill_it() -> None:
    root = drawn(parts_of("t", [("a", 3, "good"), ("b", 1, "bad")]))
    assert max(widths(root, "good")) == pytest.approx(WIDTH * 0.75)


def test_titles_and_labels_are_escaped() -> None:
    hostile = '"><script>alert(1)</script>'
    for markup in (
        bars(hostile, [Bar(hostile, 1, hostile)]),
        spans(hostile, [Span(hostile, 0, 1, 0, 1, hostile)]),
        moves(hostile, [Move(hostile, 0, 1, hostile)], 0, 1),
        columns(hostile, [Bar(hostile, 1, hostile)], 0, 1),
        parts_of(hostile, [(hostile, 1, "a")]),
        heatmap(hostile, confusion_of([0, 1], [1, 0], 2), [hostile, hostile]),
    ):
        root = drawn(markup)
        assert root.attrib["aria-label"].startswith(hostile)
        assert list(root.iter("script")) == []


# The confusion matrix


def test_right_and_wrong_are_shaded_apart() -> None:
    root = drawn(heatmap("m", confusion_of([0] * 50 + [1], [0] * 50 + [0], 2), ["a", "b"]))
    kinds = [rect.attrib["class"] for rect in root.iter("rect")]
    assert kinds == ["track", "hit s9", "miss s9"]
    assert "b answered as a: 1" in [title.text for title in root.iter("title")]


@pytest.mark.parametrize("classes", [1, MAX_CLASSES + 1, 65_536])
def test_too_many_classes_are_not_drawn(classes: int) -> None:
    cells = [ConfusionCell(0, 0, 5)]
    assert heatmap("m", Confusion(classes=classes, cells=cells), ["x"]) == ""


def test_cells_outside_of_the_matrix_are_left_out() -> None:
    cells = [ConfusionCell(0, 9, 1), ConfusionCell(-1, 0, 1), ConfusionCell(1, 1, 1)]
    root = drawn(heatmap("m", Confusion(classes=2, cells=cells), ["a", "b"]))
    assert len(list(root.iter("rect"))) == 2


def test_forty_classes_still_have_readable_names() -> None:
    labels = list(range(MAX_CLASSES))
    root = drawn(heatmap("m", confusion_of(labels, labels, MAX_CLASSES), [str(x) for x in labels]))
    named = [t for t in root.iter("text") if t.attrib["text-anchor"] == "end"]
    assert 10 <= len(named) <= MAX_CLASSES
    assert math.isclose(float(root.attrib["viewBox"].split()[2]), WIDTH)
