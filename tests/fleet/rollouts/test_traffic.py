"""Reports as sums: each window where it belongs, nothing counted under the wrong release."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from contract.messages import DriftWindow, FeatureCounts, InferenceWindow, Report, Stamp
from fleet.rollouts.traffic import (
    MAX_RANGES,
    Figures,
    Traffic,
    Window,
    add,
    count,
    total,
    window_of,
)

OLD, NEW, OLDER = "1" * 64, "2" * 64, "0" * 64
START, ASSIGNED = 1_000, 2_000


def window(digest: str, at_ms: int, inferences: int = 10) -> Window:
    return Window(Figures(digest=digest, inferences=inferences), at_ms)


def counted(*windows: Window, assigned: int | None = ASSIGNED) -> Traffic:
    traffic = Traffic()
    for each in windows:
        traffic = count(traffic, each, NEW, START, assigned)
    return traffic


def report(digest: str, drift_digest: str) -> Report:
    counts = FeatureCounts(bins=[5] * 16, n=80, below=6, above=4)
    return Report(
        device="cam-0",
        seq=1,
        stamp=Stamp("a" * 32, 1, 1, True),
        window_ms=60_000,
        inference={"digits": InferenceWindow(digest=digest, inferences=80, errors=2, invalid=1)},
        drift={
            "digits": DriftWindow(
                digest=drift_digest, profile="f" * 64, features={"mean": counts}, classes=[70, 10]
            )
        },
    )


def test_windows_of_the_candidate_count_from_the_assignment_on() -> None:
    traffic = counted(window(NEW, ASSIGNED - 1, 5), window(NEW, ASSIGNED, 7))
    assert traffic.candidate.inferences == 7
    assert traffic.previous == traffic.control == Figures()


def test_a_device_that_is_held_back_is_control_from_the_rollouts_start_on() -> None:
    traffic = counted(window(OLD, START - 1, 5), window(OLD, START, 7), assigned=None)
    assert traffic.control.inferences == 7
    assert traffic.previous.inferences == 12


def test_what_an_old_release_does_after_the_assignment_counts_nowhere() -> None:
    assert counted(window(OLD, ASSIGNED)) == Traffic()


def test_previous_is_the_last_release_alone() -> None:
    traffic = counted(window(OLDER, 10, 100), window(OLD, 20, 3), window(OLD, 30, 4))
    assert (traffic.previous.digest, traffic.previous.inferences) == (OLD, 7)


def test_a_report_gives_rates_classes_and_range() -> None:
    found = window_of(report(OLD, OLD), "digits", 5)
    assert found is not None
    assert found.figures.ranges == {"mean": (80, 10)}
    assert (found.figures.errors, found.figures.invalid) == (2, 1)
    assert found.figures.classes == [70, 10]


def test_drift_of_another_digest_than_the_windows_is_left_out() -> None:
    found = window_of(report(NEW, OLD), "digits", 5)
    assert found is not None
    assert (found.figures.classes, found.figures.ranges) == ([], {})


def test_a_report_without_the_family_says_nothing() -> None:
    assert window_of(report(OLD, OLD), "words", 5) is None


def test_counts_of_another_shape_are_left_out_and_break_nothing() -> None:
    first = Figures(classes=[1, 2], latency_counts=[1] * 64)
    second = Figures(classes=[1, 2, 3], latency_counts=[1, 2, 3])
    assert add(first, second).classes == [1, 2]
    assert add(first, second).latency_counts == [1] * 64


FIGURES = st.builds(
    Figures,
    inferences=st.integers(0, 1_000),
    errors=st.integers(0, 9),
    classes=st.lists(st.integers(0, 50), min_size=4, max_size=4),
    ranges=st.dictionaries(
        st.sampled_from(["mean", "std"]), st.tuples(st.integers(0, 9), st.integers(0, 9))
    ),
)


@given(st.lists(FIGURES, max_size=6))
def test_sums_do_not_depend_on_the_order(parts: list[Figures]) -> None:
    one, other = total(parts), total(list(reversed(parts)))
    assert (one.inferences, one.errors, one.ranges) == (
        other.inferences,
        other.errors,
        other.ranges,
    )
    assert one.classes == other.classes


def test_a_device_that_invents_features_does_not_make_the_sums_grow() -> None:
    whole = Figures()
    for k in range(3):
        names = {f"{k}-{n}": (1, 0) for n in range(MAX_RANGES)}
        whole = add(whole, Figures(ranges=names))
    assert len(whole.ranges) == MAX_RANGES
