"""Order and waves: deterministic, cumulative, stable when the fleet grows."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet.rollouts.cohort import MAX_WAVES, order, parse_waves, sizes, wave_of
from fleet.rollouts.errors import InvalidRollout

NAMES = st.lists(st.from_regex(r"[a-z]{1,8}", fullmatch=True), unique=True, max_size=40)
PERCENTS = st.lists(st.integers(1, 100), min_size=1, max_size=8, unique=True).map(sorted)


@pytest.mark.parametrize(
    ("texts", "devices", "reached"),
    [
        (["5%", "25%", "100%"], 1_000, [50, 250, 1_000]),
        (["5%", "25%", "100%"], 6, [1, 2, 6]),
        (["1", "3", "6"], 6, [1, 3, 6]),
        (["1", "3", "6"], 4, [1, 3, 4]),
        (["1", "25%", "100%"], 20, [1, 5, 20]),
        (["5%", "10%", "100%"], 6, [1, 6]),
        (["100%"], 1, [1]),
        (["0.1%", "100%"], 3_000, [3, 3_000]),
        (["2"], 6, [2]),
        (["10%", "50%"], 10, [1, 5]),
    ],
)
def test_waves_reach_so_many_devices(texts: list[str], devices: int, reached: list[int]) -> None:
    assert sizes(parse_waves(texts), devices) == reached


@pytest.mark.parametrize(
    "texts",
    [
        [],
        ["0%"],
        ["0"],
        ["101%"],
        ["-5%"],
        ["5 %"],
        ["1.5"],
        ["many"],
        ["25%", "5%"],
        ["3", "3"],
        ["1e3"],
        ["9" * 20],
        ["1"] * (MAX_WAVES + 1),
    ],
)
def test_broken_waves_are_refused(texts: list[str]) -> None:
    with pytest.raises(InvalidRollout) as refused:
        parse_waves(texts)
    assert "\n" not in str(refused.value)


@given(PERCENTS, st.integers(1, 5_000))
def test_waves_grow_and_end_where_the_last_percentage_says(
    percents: list[int], devices: int
) -> None:
    found = sizes(parse_waves([f"{p}%" for p in percents]), devices)
    assert found == sorted(set(found))
    assert found[-1] == -(-devices * percents[-1] // 100)


@given(st.integers(1, 100), st.integers(1, 100), st.integers(1, 5_000))
def test_a_larger_percentage_never_reaches_fewer(one: int, two: int, devices: int) -> None:
    less, more = sorted((one, two))
    reach = [parse_waves([f"{p}%"])[0].reaches(devices) for p in (less, more)]
    assert reach[0] <= reach[1]


@given(NAMES, st.sampled_from(["r1", "r2", "r77"]))
def test_the_order_is_the_rollouts_own_and_ignores_how_devices_are_listed(
    names: list[str], rollout: str
) -> None:
    assert order(rollout, names) == order(rollout, reversed(names))
    assert sorted(order(rollout, names)) == sorted(names)


@given(NAMES, st.from_regex(r"[a-z]{1,8}", fullmatch=True))
def test_adding_a_device_moves_no_other(names: list[str], added: str) -> None:
    grown = order("r1", {*names, added})
    assert [name for name in grown if name != added] == [
        name for name in order("r1", names) if name != added
    ]


def test_each_rollout_has_other_canaries() -> None:
    names = [f"cam-{n}" for n in range(50)]
    assert len({order(f"r{k}", names)[0] for k in range(20)}) > 10


def test_a_device_past_the_last_wave_belongs_to_none() -> None:
    assert [wave_of(k, [1, 3]) for k in range(5)] == [0, 1, 1, 2, 2]
