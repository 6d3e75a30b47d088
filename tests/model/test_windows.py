"""Windows add and subtract exactly, and only where they belong together."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from contract.messages import DriftWindow, FeatureCounts
from model.errors import MalformedCounts
from model.windows import add, class_shares, difference, out_of_range_share

COUNTS = st.integers(0, 1000)
FEATURES = st.builds(
    FeatureCounts,
    bins=st.lists(COUNTS, min_size=16, max_size=16),
    n=COUNTS,
    missing=COUNTS,
    below=COUNTS,
    above=COUNTS,
    longest_run=COUNTS,
)
WINDOWS = st.builds(
    DriftWindow,
    digest=st.just("a" * 64),
    profile=st.just("b" * 64),
    features=st.fixed_dictionaries({"x": FEATURES, "y": FEATURES}),
    classes=st.lists(COUNTS, min_size=3, max_size=3),
    confidence=FEATURES,
    entropy=FEATURES,
)
FEATURE = FeatureCounts(bins=[4, 6], n=10, missing=10, below=1, above=2, longest_run=5)
WINDOW = DriftWindow(digest="a" * 64, profile="b" * 64, features={"x": FEATURE}, classes=[3, 1])


def _without_runs(window: DriftWindow) -> DriftWindow:
    def plain(counts: FeatureCounts | None) -> FeatureCounts | None:
        return counts and msgspec.structs.replace(counts, longest_run=0)

    return msgspec.structs.replace(
        window,
        features={name: plain(counts) for name, counts in window.features.items()},
        confidence=plain(window.confidence),
        entropy=plain(window.entropy),
    )


@given(WINDOWS, WINDOWS)
def test_the_difference_undoes_the_sum(first: DriftWindow, second: DriftWindow) -> None:
    assert _without_runs(difference(add(first, second), first)) == _without_runs(second)


@given(WINDOWS, WINDOWS, WINDOWS)
def test_the_order_of_adding_does_not_matter(
    a: DriftWindow, b: DriftWindow, c: DriftWindow
) -> None:
    assert add(a, b) == add(b, a)
    assert add(add(a, b), c) == add(a, add(b, c))


def test_the_longest_run_is_the_longer_of_two_and_the_later_of_a_difference() -> None:
    longer = msgspec.structs.replace(
        WINDOW, features={"x": msgspec.structs.replace(FEATURE, longest_run=9)}
    )
    assert add(WINDOW, longer).features["x"].longest_run == 9
    assert difference(longer, WINDOW).features["x"].longest_run == 9


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"profile": "c" * 64}, "different models or profiles"),
        ({"digest": "c" * 64}, "different models or profiles"),
        ({"features": {}}, "same features"),
        ({"features": {"x": FeatureCounts(bins=[1], n=1)}}, "same bins"),
        ({"classes": [1]}, "same bins"),
        ({"confidence": FEATURE}, "only one"),
        ({"entropy": FEATURE}, "only one"),
    ],
)
def test_windows_that_do_not_belong_together_are_refused(
    change: dict[str, object], message: str
) -> None:
    other = msgspec.structs.replace(WINDOW, **change)
    for combine in (add, difference):
        with pytest.raises(MalformedCounts, match=message):
            combine(WINDOW, other)


def test_counts_that_fell_are_refused() -> None:
    later = msgspec.structs.replace(WINDOW, classes=[2, 1])
    with pytest.raises(MalformedCounts, match="fell"):
        difference(later, WINDOW)


def test_shares_are_of_everything_that_came() -> None:
    assert class_shares(WINDOW) == [0.75, 0.25]
    assert out_of_range_share(WINDOW) == 0.15
    other = msgspec.structs.replace(FEATURE, below=8)
    wide = msgspec.structs.replace(WINDOW, features={"x": FEATURE, "y": other})
    assert out_of_range_share(wide) == 0.5
