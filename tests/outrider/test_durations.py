"""Durations as people write them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outrider.durations import MAX_SECONDS, format_duration, parse_duration


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("0s", 0), ("90s", 90), ("10m", 600), ("1h", 3_600), ("2d", 172_800), ("1h30m", 5_400)],
)
def test_durations_are_numbers_with_units(text: str, seconds: int) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "10", "m", "10 m", "1.5h", "-1s", "10m\n", "1w", "99999d"])
def test_other_text_is_refused_in_words(text: str) -> None:
    with pytest.raises(ValueError, match=r"duration|longer"):
        parse_duration(text)


@given(st.integers(0, MAX_SECONDS))
def test_what_is_formatted_parses_back(seconds: int) -> None:
    assert parse_duration(format_duration(seconds)) == seconds


def test_short_times_keep_a_decimal() -> None:
    assert format_duration(3.14159) == "3.1s"
