"""Counting what is taken for what."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from converter.confusion import MAX_CELLS, class_name, confusion_of, mistakes, recalls


def test_pairs_are_counted_and_sorted() -> None:
    found = confusion_of([0, 0, 1, 2, 2], [0, 1, 1, 2, 0], 3)
    assert [(c.label, c.answer, c.count) for c in found.cells] == [
        (0, 0, 1),
        (0, 1, 1),
        (1, 1, 1),
        (2, 0, 1),
        (2, 2, 1),
    ]


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), max_size=60))
def test_every_sample_is_in_one_cell(pairs: list[tuple[int, int]]) -> None:
    found = confusion_of([a for a, _ in pairs], [b for _, b in pairs], 5)
    assert sum(cell.count for cell in found.cells) == len(pairs)
    assert sum(cell.count for cell in mistakes(found)) == sum(a != b for a, b in pairs)


def test_the_most_frequent_mistake_comes_first() -> None:
    found = mistakes(confusion_of([0, 1, 1, 1, 2], [1, 0, 0, 1, 2], 3))
    assert [(c.label, c.answer, c.count) for c in found] == [(1, 0, 2), (0, 1, 1)]


def test_recall_is_over_the_labels_that_occur() -> None:
    found = recalls(confusion_of([0, 0, 0, 0, 2], [0, 0, 0, 1, 0], 3))
    assert {label: (r.samples, r.percent) for label, r in found.items()} == {
        0: (4, 75.0),
        2: (1, 0.0),
    }


def test_of_thousands_of_classes_the_mistakes_are_kept() -> None:
    count = 2 * MAX_CELLS
    labels = [*range(count), 7, 7]
    found = confusion_of(labels, [*range(count), 8, 8], count)
    assert len(found.cells) == MAX_CELLS
    assert [(c.label, c.answer, c.count) for c in mistakes(found)] == [(7, 8, 2)]


def test_classes_without_names_are_numbered() -> None:
    assert [class_name(["a", ""], place) for place in (0, 1, 2, -1)] == ["a", "1", "2", "-1"]
