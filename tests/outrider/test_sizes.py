"""Amounts of data as people write them."""

from __future__ import annotations

import pytest
from hypothesis import given
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


@given(st.integers(0, MAX_BYTES))
def test_what_is_formatted_is_right_to_three_figures(size: int) -> None:
    assert abs(parse_size(format_size(size)) - size) <= size * 0.005 + 1


@given(st.text(max_size=30))
def test_arbitrary_text_raises_nothing_else(text: str) -> None:
    try:
        assert 0 <= parse_size(text) <= MAX_BYTES
    except ValueError:
        return
