"""The selector language: what it names, and what it refuses in one line."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet.rollouts.errors import InvalidSelector
from fleet.rollouts.selectors import MAX_CHARS, Subject, parse_selector

CAMERA = Subject("cam-12", "pi-5", {"site": "lyon", "floor": "2"})


@pytest.mark.parametrize(
    "text",
    [
        "all",
        " all ",
        "class=pi-5",
        "class=pi-*",
        "name=cam-*",
        "name=*12",
        "name=c*m*2",
        "name=*",
        "site=lyon",
        "site=lyon,floor=2",
        "site=l*, class=pi-5",
    ],
)
def test_these_name_the_camera(text: str) -> None:
    assert parse_selector(text).matches(CAMERA)


@pytest.mark.parametrize(
    "text",
    [
        "class=pi-4",
        "name=cam",
        "name=cam-1",
        "name=*cam-12x",
        "name=cam-12*2",
        "site=paris",
        "site=lyon,floor=3",
        "rack=1",
        "rack=*",
    ],
)
def test_these_do_not(text: str) -> None:
    assert not parse_selector(text).matches(CAMERA)


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("", "key=value"),
        ("cam-1", "cam-1"),
        ("site", "key=value"),
        ("site=", "not a value"),
        ("=lyon", "not the name of a label"),
        ("site=lyon,", "key=value"),
        ("all,site=lyon", "stands alone"),
        ("Site=lyon", "not the name of a label"),
        ("site=ly on", "not a value"),
        ("site=ly;rm", "not a value"),
        ("a=b," * 20 + "a=b", "conditions"),
        ("a=" + "b" * MAX_CHARS, "characters"),
    ],
)
def test_a_broken_selector_is_refused_in_one_line(text: str, names: str) -> None:
    with pytest.raises(InvalidSelector, match=names) as refused:
        parse_selector(text)
    assert "\n" not in str(refused.value)


def test_the_stored_text_parses_to_the_same_conditions() -> None:
    found = parse_selector(" site=lyon ,  class=pi-5")
    assert found.text == "site=lyon,class=pi-5"
    assert parse_selector(found.text).conditions == found.conditions


@given(st.text(alphabet="ab*", min_size=1, max_size=8), st.text(alphabet="ab", max_size=8))
def test_a_star_means_any_characters(pattern: str, value: str) -> None:
    found = parse_selector(f"x={pattern}").matches(Subject("n", "c", {"x": value}))
    assert found == _reference(pattern, value)


@given(st.text(max_size=60))
def test_no_text_makes_the_parser_fail_otherwise(text: str) -> None:
    with contextlib.suppress(InvalidSelector):
        parse_selector(text)


def _reference(pattern: str, value: str) -> bool:
    if not pattern:
        return not value
    if pattern[0] == "*":
        return any(_reference(pattern[1:], value[k:]) for k in range(len(value) + 1))
    return value[:1] == pattern[0] and _reference(pattern[1:], value[1:])
