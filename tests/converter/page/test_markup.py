"""Words from outside never become markup; figures are written the same everywhere."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from converter.page.markup import (
    clipped,
    esc,
    number,
    percent,
    plural,
    points,
    size,
    table,
    without_common_path,
)


@given(st.text(max_size=50))
def test_no_text_escapes_its_place(text: str) -> None:
    found = esc(text)
    assert not set("<>\"'") & set(found)
    found.encode("utf-8")


def test_marks_that_turn_text_around_and_controls_are_shown_as_unknown() -> None:
    assert esc("a\u202eb\x00c\ud800") == "a\ufffdb\ufffdc\ufffd"


def test_cells_of_a_table_are_text() -> None:
    found = table(("<b>",), [("<script>alert(1)</script>",)])
    assert "<script" not in found
    assert "&lt;script&gt;" in found


@pytest.mark.parametrize(
    ("count", "expected"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (36_000, "35.2 KiB"),
        (5 << 40, "5120.0 GiB"),
    ],
)
def test_sizes(count: int, expected: str) -> None:
    assert size(count) == expected


@pytest.mark.parametrize(
    ("value", "expected"), [(0.3, "+0.30"), (-0.3, "\u22120.30"), (-0.001, "±0.00"), (0.0, "±0.00")]
)
def test_differences_carry_their_sign_unless_they_are_none(value: float, expected: str) -> None:
    assert points(value) == expected


def test_what_was_not_measured_is_a_dash() -> None:
    assert percent(None) == number(float("nan")) == number(float("inf")) == "\u2013"
    assert percent(98.5) == "98.50 %"


def test_the_end_of_a_long_name_is_kept() -> None:
    assert clipped("model/block_5/conv", 10) == "…ck_5/conv"
    assert clipped("conv", 10) == "conv"


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["m/f/a/conv", "m/f/b/conv"], ["a/conv", "b/conv"]),
        (["m/conv", "m/conv"], ["conv", "conv"]),
        (["m/conv", "conv"], ["m/conv", "conv"]),
        (["m/a", "m/a/b"], ["a", "a/b"]),
        (["m/conv"], ["m/conv"]),
        ([], []),
        (["", "/"], ["", "/"]),
    ],
)
def test_what_all_names_share_is_left_out(names: list[str], expected: list[str]) -> None:
    assert without_common_path(names) == expected


def test_one_is_singular() -> None:
    assert (plural(1, "layer"), plural(2_000, "layer")) == ("1 layer", "2,000 layers")
