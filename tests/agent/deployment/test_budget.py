"""The stricter of two bounds counts, and says whose it is."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.deployment.budget import stricter
from contract.messages import FamilyAssignment


def wanted(most: int) -> FamilyAssignment:
    return FamilyAssignment(
        target="digits/1", digest="a" * 64, rollout="r7", metered_bytes=most or msgspec.UNSET
    )


@pytest.mark.parametrize(
    ("device", "assigned", "most", "said_by"),
    [
        (0, 0, 0, "this device"),
        (5, 0, 5, "this device"),
        (0, 7, 7, "rollout r7"),
        (5, 7, 5, "this device"),
        (9, 7, 7, "rollout r7"),
    ],
)
def test_the_stricter_bound_counts_and_none_is_no_bound(
    device: int, assigned: int, most: int, said_by: str
) -> None:
    found = stricter(device, wanted(assigned))
    assert found.most == most
    assert said_by in found.said_by


@given(st.integers(0, 1 << 40), st.integers(0, 1 << 40))
def test_no_bound_is_ever_loosened_by_the_other(device: int, assigned: int) -> None:
    most = stricter(device, wanted(assigned)).most
    assert all(most <= bound for bound in (device, assigned) if bound)
    assert most in (device, assigned)
