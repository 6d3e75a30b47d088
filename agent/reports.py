"""Window reports: what was counted between two looks at the server's cumulative counters. Pure.

Counters belong to one life of the server and one stretch of serving; where either changed, the
difference starts from zero. What a predecessor counted until its end goes into a window of its own,
since a report holds one digest a family.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import msgspec

from agent.serving.protocol import ModelCounters, ServerCounters
from contract.codec import encode
from contract.errors import MessageTooLong
from contract.messages import (
    DriftWindow,
    InferenceWindow,
    Report,
    ResourceWindow,
    Stamp,
)
from model import latency, windows
from model.errors import MalformedCounts


class Window(msgspec.Struct, frozen=True):
    """One report's worth: family -> counts."""

    inference: dict[str, InferenceWindow]
    drift: dict[str, DriftWindow]


def windows_between(earlier: ServerCounters | None, later: ServerCounters) -> list[Window]:
    """The finished rests of predecessors (when there are any), then what serves now."""
    before = earlier.families if earlier is not None and earlier.boot == later.boot else {}
    rests = {
        family: (later.retired[family], known)
        for family, known in before.items()
        if _was_replaced(family, known, later)
    }
    current = {
        family: (counters, None if family in rests else before.get(family))
        for family, counters in later.families.items()
    }
    return [w for w in (_window(rests), _window(current)) if w.inference or w.drift] or [
        Window({}, {})
    ]


def report_makers(
    device: str,
    stamp: Stamp,
    window_ms: int,
    counted: list[Window],
    resources: ResourceWindow,
) -> list[Callable[[int], bytes]]:
    """What the outbox calls with a seq, one a report; resources go with the last.

    A window that would be too long for one message is split by family.
    """
    pieces = [piece for window in counted for piece in _that_fit(window)]

    def maker(piece: Window, last: bool) -> Callable[[int], bytes]:
        def make(seq: int) -> bytes:
            return encode(
                Report(
                    device=device,
                    seq=seq,
                    stamp=stamp,
                    window_ms=window_ms,
                    inference=piece.inference,
                    drift=piece.drift,
                    resources=resources if last else None,
                )
            )

        return make

    return [maker(piece, at + 1 == len(pieces)) for at, piece in enumerate(pieces)]


def _was_replaced(family: str, known: ModelCounters, later: ServerCounters) -> bool:
    now, retired = later.families.get(family), later.retired.get(family)
    gone = now is None or not _continues(now, known)
    return gone and retired is not None and _continues(retired, known)


def _continues(later: ModelCounters, earlier: ModelCounters) -> bool:
    """Whether `later` counts the same stretch of serving: the same digest, and nothing fell."""
    return (
        later.digest == earlier.digest
        and later.inferences >= earlier.inferences
        and later.probes >= earlier.probes
    )


def _window(pairs: Mapping[str, tuple[ModelCounters, ModelCounters | None]]) -> Window:
    inference, drift = {}, {}
    for family, (later, earlier) in pairs.items():
        if earlier is not None and not _continues(later, earlier):
            earlier = None
        inference[family] = _inference(later, earlier)
        counted = _drift(later.drift, earlier.drift if earlier is not None else None)
        if counted is not None:
            drift[family] = counted
    return Window(inference, drift)


def _inference(later: ModelCounters, earlier: ModelCounters | None) -> InferenceWindow:
    counts = _latencies(later.latency_counts, earlier.latency_counts if earlier else [])
    slowest = latency.quantile(counts, 1.0)
    return InferenceWindow(
        digest=later.digest,
        inferences=later.inferences - (earlier.inferences if earlier else 0),
        errors=later.errors - (earlier.errors if earlier else 0),
        invalid=later.invalid - (earlier.invalid if earlier else 0),
        probes=later.probes - (earlier.probes if earlier else 0),
        latency_ms_p50=latency.quantile(counts, 0.5),
        latency_ms_p95=latency.quantile(counts, 0.95),
        # The exact maximum is known for the whole stretch only; a bin bounds this window's.
        latency_ms_max=min(slowest, later.latency_max_ms) if later.latency_max_ms else slowest,
        latency_counts=counts,
    )


def _latencies(later: list[int], earlier: list[int]) -> list[int]:
    try:
        return latency.difference(later, earlier)
    except MalformedCounts:
        return list(later)


def _drift(later: DriftWindow | None, earlier: DriftWindow | None) -> DriftWindow | None:
    if later is None or earlier is None:
        return later
    try:
        return windows.difference(later, earlier)
    except MalformedCounts:
        return later


def _that_fit(window: Window) -> list[Window]:
    if _fits(window):
        return [window]
    families = sorted({*window.inference, *window.drift})
    single = [
        Window(
            {f: window.inference[f] for f in [family] if f in window.inference},
            {f: window.drift[f] for f in [family] if f in window.drift},
        )
        for family in families
    ]
    # A profile of a family's own that is too long for any message: its counts stay behind.
    return [piece if _fits(piece) else Window(piece.inference, {}) for piece in single]


def _fits(window: Window) -> bool:
    stamp = Stamp("0" * 32, 1 << 53, 1 << 53, False)
    biggest = ResourceWindow(
        cpu_percent=100.0,
        memory_available_bytes=1 << 53,
        rss_control_bytes=1 << 53,
        rss_server_bytes=1 << 53,
        disk_free_bytes=1 << 53,
        temperature_c=100.123456,
        load_1m=100.123456,
    )
    try:
        encode(
            Report(
                device="x" * 63,
                seq=1 << 53,
                stamp=stamp,
                window_ms=1 << 53,
                inference=window.inference,
                drift=window.drift,
                resources=biggest,
            )
        )
    except MessageTooLong:
        return False
    return True
