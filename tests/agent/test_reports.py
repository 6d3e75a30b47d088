"""Windows between two looks at the server's counters: restarts, swaps, sizes."""

from __future__ import annotations

import msgspec

from agent.reports import report_makers, windows_between
from agent.serving.protocol import ModelCounters, ServerCounters
from contract.codec import MAX_BYTES, decode
from contract.messages import DriftWindow, FeatureCounts, Report, ResourceWindow, Stamp
from model.latency import BINS, LatencyCounts

BOOT, OTHER = "a" * 32, "b" * 32
V1, V2, PROFILE = "1" * 64, "2" * 64, "3" * 64
STAMP = Stamp(BOOT, 1000, 2000, True)
RESOURCES = ResourceWindow(
    cpu_percent=1.0,
    memory_available_bytes=2,
    rss_control_bytes=3,
    rss_server_bytes=4,
    disk_free_bytes=5,
)


def latencies(*values: float) -> list[int]:
    counts = LatencyCounts()
    for value in values:
        counts.add(value)
    return counts.counts()


def drift(digest: str, n: int, features: int = 1) -> DriftWindow:
    counts = FeatureCounts(bins=[n, *[0] * 15], n=n)
    return DriftWindow(
        digest=digest,
        profile=PROFILE,
        features={f"feature-{i}": counts for i in range(features)},
        classes=[n, 0],
    )


def model(digest: str, inferences: int, ms: float = 1.0, errors: int = 0) -> ModelCounters:
    return ModelCounters(
        digest=digest,
        profile=PROFILE,
        inferences=inferences,
        good=inferences,
        latency_counts=latencies(*[ms] * inferences),
        latency_max_ms=ms,
        drift=drift(digest, inferences),
        errors=errors,
    )


def server(
    boot: str = BOOT, retired: ModelCounters | None = None, **f: ModelCounters
) -> ServerCounters:
    return ServerCounters(boot=boot, families=f, retired={"digits": retired} if retired else {})


def test_a_window_is_the_difference_of_two_looks() -> None:
    (window,) = windows_between(
        server(digits=model(V1, 10, errors=1)), server(digits=model(V1, 25, errors=3))
    )
    counted = window.inference["digits"]
    assert (counted.digest, counted.inferences, counted.errors) == (V1, 15, 2)
    assert sum(counted.latency_counts) == 15
    assert window.drift["digits"].features["feature-0"].n == 15
    assert window.drift["digits"].classes == [15, 0]


def test_the_first_look_counts_from_zero() -> None:
    (window,) = windows_between(None, server(digits=model(V1, 10)))
    assert window.inference["digits"].inferences == 10


def test_a_restarted_server_counts_from_zero() -> None:
    (window,) = windows_between(
        server(digits=model(V1, 100)), server(boot=OTHER, digits=model(V1, 4))
    )
    assert window.inference["digits"].inferences == 4


def test_a_swap_gives_the_rest_of_the_old_and_the_beginning_of_the_new() -> None:
    rest, beginning = windows_between(
        server(digits=model(V1, 100)),
        server(retired=model(V1, 130), digits=model(V2, 7)),
    )
    assert (rest.inference["digits"].digest, rest.inference["digits"].inferences) == (V1, 30)
    assert (beginning.inference["digits"].digest, beginning.inference["digits"].inferences) == (
        V2,
        7,
    )
    assert rest.drift["digits"].digest == V1
    assert beginning.drift["digits"].digest == V2


def test_the_same_digest_serving_a_second_time_counts_from_zero() -> None:
    (window,) = windows_between(server(digits=model(V1, 100)), server(digits=model(V1, 5)))
    assert window.inference["digits"].inferences == 5


def test_quantiles_are_of_the_window_alone() -> None:
    slow_past = ModelCounters(
        digest=V1, profile=PROFILE, inferences=50, latency_counts=latencies(*[900.0] * 50)
    )
    now = msgspec.structs.replace(
        slow_past, inferences=90, latency_counts=latencies(*[900.0] * 50, *[2.0] * 40)
    )
    (window,) = windows_between(server(digits=slow_past), server(digits=now))
    counted = window.inference["digits"]
    assert counted.latency_ms_p50 < counted.latency_ms_p95 < counted.latency_ms_max < 3.0


def test_a_server_without_models_still_gives_a_window_for_the_resources() -> None:
    (window,) = windows_between(None, server())
    assert (window.inference, window.drift) == ({}, {})


def test_resources_go_with_the_last_report_alone() -> None:
    counted = windows_between(
        server(digits=model(V1, 100)), server(retired=model(V1, 130), digits=model(V2, 7))
    )
    makers = report_makers("pi-1", STAMP, 60_000, counted, RESOURCES)
    first, last = [decode(Report, make(seq)) for seq, make in enumerate(makers, start=5)]
    assert (first.seq, last.seq) == (5, 6)
    assert (first.resources, last.resources) == (None, RESOURCES)
    assert first.window_ms == 60_000


def test_what_is_too_long_for_one_message_is_split_by_family() -> None:
    families = {
        f"family-{i}": msgspec.structs.replace(model(V1, 5), drift=drift(V1, 5, features=200))
        for i in range(8)
    }
    later = ServerCounters(boot=BOOT, families=families)
    makers = report_makers("pi-1", STAMP, 1, windows_between(None, later), RESOURCES)
    reports = [decode(Report, make(1)) for make in makers]
    assert len(reports) == 8
    assert {f for r in reports for f in r.drift} == set(families)
    assert max(len(make(1)) for make in makers) <= MAX_BYTES[Report]


def test_a_profile_too_long_for_any_message_keeps_the_counts_of_inferences() -> None:
    wide = msgspec.structs.replace(
        model(V1, 5),
        drift=DriftWindow(
            digest=V1,
            profile=PROFILE,
            features={f"feature-{i}": FeatureCounts(bins=[1] * 1024, n=1024) for i in range(200)},
        ),
    )
    later = ServerCounters(boot=BOOT, families={"digits": wide})
    (make,) = report_makers("pi-1", STAMP, 1, windows_between(None, later), RESOURCES)
    report = decode(Report, make(1))
    assert report.inference["digits"].inferences == 5
    assert report.drift == {}


def test_latency_counts_have_the_length_of_the_wire() -> None:
    (window,) = windows_between(None, server(digits=model(V1, 3)))
    assert len(window.inference["digits"].latency_counts) == BINS
