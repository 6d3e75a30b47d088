"""Amounts of data as people write them."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from outrider.sizes import MAX_BYTES, format_size, parse_size


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("0", 0),
        ("17", 17),
        ("500kB", 500_000),
        ("500KB", 500_000),
        ("20MB", 20_000_000),
        ("20 MB", 20_000_000),
        ("1.5GB", 1_500_000_000),
        ("64MiB", 64 << 20),
    ],
)
def test_sizes_are_numbers_with_units(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "MB", "-1", "20mb", "20M", "1.0000001kB", "5.5B", "9999GB"])
def test_other_text_is_refused_in_words(text: str) -> None:
    with pytest.raises(ValueError, match=r"amount of data|whole number"):
        parse_size(text)


@given(st.integers(0, 999))
def test_what_is_formatted_parses_back(size: int) -> None:
    assert parse_size(format_size(size)) == size
    assert parse_size(format_size(size * 1_000_000)) == size * 1_000_000


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (999, "999 B"),
        (999_499, "999 kB"),
        (999_600, "1 MB"),
        (999_999_999, "1 GB"),
        (1_234_567, "1.23 MB"),
        (MAX_BYTES, "1000 GB"),
    ],
)
def test_a_size_is_told_in_the_unit_that_fits(size: int, text: str) -> None:
    assert format_size(size) == text


@given(st.integers(0, MAX_BYTES))
@example(999_600_000)
@example(MAX_BYTES)
def test_what_is_formatted_is_right_to_three_figures(size: int) -> None:
    assert abs(parse_size(format_size(size)) - size) <= size * 0.005 + 1


@given(st.text(max_size=30))
def test_arbitrary_text_raises_nothing_else(text: str) -> None:
    try:
        assert 0 <= parse_size(text) <= MAX_BYTES
    except ValueError:
        return
