"""`abort_if`: parsed strictly, compared exactly."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet.rollouts.errors import InvalidRollout
from fleet.rollouts.thresholds import parse_threshold


@pytest.mark.parametrize(
    ("text", "failed", "reached", "exceeded"),
    [
        ("failed>10%", 1, 10, False),
        ("failed>10%", 2, 10, True),
        ("failed>=10%", 1, 10, True),
        ("failed>=2", 1, 10, False),
        ("failed>=2", 2, 10, True),
        ("failed>2", 2, 10, False),
        ("failed > 0", 1, 10, True),
        ("failed>0%", 0, 10, False),
        ("failed>=0", 0, 0, False),
        ("failed>33.333%", 1, 3, True),
        ("failed>33.334%", 1, 3, False),
        ("failed>100%", 10, 10, False),
    ],
)
def test_exceeded(text: str, failed: int, reached: int, exceeded: bool) -> None:
    assert parse_threshold(text).exceeded(failed, reached) is exceeded


@pytest.mark.parametrize(
    "text",
    [
        "",
        "failed",
        "failed<10%",
        "failed>",
        "failed>-1",
        "failed>1.5",
        "failed>101%",
        "failed>100.001%",
        "succeeded>2",
        "failed>10% or 1",
        "failed>" + "9" * 60,
        "failed>1\n",
    ],
)
def test_anything_else_is_refused_in_one_line(text: str) -> None:
    if text == "failed>1\n":  # surrounding space is forgiven
        assert parse_threshold(text).text == "failed>1"
        return
    with pytest.raises(InvalidRollout) as refused:
        parse_threshold(text)
    assert "\n" not in str(refused.value)


@given(
    st.sampled_from([">", ">="]),
    st.integers(0, 100),
    st.booleans(),
    st.integers(1, 500),
    st.integers(0, 500),
)
def test_what_is_allowed_is_the_most_that_does_not_exceed(
    compare: str, amount: int, percent: bool, reached: int, failed: int
) -> None:
    threshold = parse_threshold(f"failed{compare}{amount}{'%' if percent else ''}")
    failed = min(failed, reached)
    assert threshold.exceeded(failed, reached) == (failed > threshold.allowed(reached))
