"""A described bundle on a terminal: what is in it, what was measured, what is worst."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from outrider.terminal import figures, note, print_fields, print_json, print_table, short

WORST = 5
MATRIX_CLASSES = 12
"""A matrix of more does not fit a terminal."""


def show_bundle(described: dict[str, Any], json: bool, brief: bool = False) -> None:
    """Print `converter.inspection.describe`'s values, as text or as JSON.

    `brief` leaves the report out of the text.
    """
    if json:
        print_json(described)
        return
    print_fields(_fields(described))
    print_table(
        ("variant", "runtime", "bytes", "digest", "evidence"),
        [
            (
                variant["name"],
                variant["runtime"],
                f"{variant['model']['length']:,}",
                short(variant["model"]["digest"]),
                figures(variant["evidence"]),
            )
            for variant in described["variants"]
        ],
        "no variants",
    )
    if brief:
        return
    if described["report"] is None:
        note("no evaluation report that this program reads")
    else:
        _show_report(described["report"])


def _fields(described: dict[str, Any]) -> dict[str, object]:
    gate = described["gate"]
    verdict = "forced" if gate["forced"] else "passed" if gate["passed"] else "failed"
    return {
        "release": f"{described['family']}:{described['version']}",
        "digest": described["digest"],
        "source": f"{described['source']['name']}, {described['source']['length']:,} bytes",
        "gate": f"{verdict}: {gate['metric']} {gate['measured']:.2f} against"
        f" {gate['baseline']:.2f}, at most {_points(gate['max_drop'])} lower",
        "reason": gate["reason"],
        "latency": _latencies(described["report"]),
        "measured on": "; ".join(described["measured"]),
        "device classes": ", ".join(described["device_classes"]),
        "signed": _signed(described["signatures"]) or "no: outrider sign",
    }


def _points(count: float) -> str:
    return f"{count:g} point" if count == 1 else f"{count:g} points"


def _latencies(report: dict[str, Any] | None) -> str:
    variants = [] if report is None else report["variants"]
    timed = [(each["name"], each["latency"]) for each in variants if each["latency"] is not None]
    if not timed:
        return ""
    told = "; ".join(f"{name} {_latency(latency)}" for name, latency in timed)
    return f"{told}; median of one call on one sample, one thread"


def _latency(measured: dict[str, float]) -> str:
    ours, float32 = measured["p50_ms"], measured["p50_ms_float32"]
    ratio = f" ({ours / float32:.2f} x)" if float32 > 0 else ""
    return f"{ours * 1000:.1f} us, float32 {float32 * 1000:.1f} us{ratio}"


def _signed(signatures: Sequence[dict[str, Any]]) -> str:
    return "; ".join(
        f"{each['file']} by {', '.join(map(short, each['keys'])) or 'nobody'}"
        + (f" until {each['expires'][:10]}" if each["expires"] else "")
        for each in signatures
    )


def _show_report(report: dict[str, Any]) -> None:
    data = report["data"]
    print_fields(
        {
            "calibrated on": _count(data["calibration_samples"], "sample"),
            "evaluated on": _count(data["evaluation_samples"], "sample")
            + ("" if data["labelled"] else ", no labels")
            + (", held out of the calibration file" if data["held_out"] else ""),
            "how": f"{report['quantiser']['ranges']}; activations"
            f" {report['quantiser']['activations']}, weights {report['quantiser']['weights']}",
            "coverage": _coverage(report["coverage"]),
            "tried": _tried(report["candidates"]),
        }
    )
    for variant in report["variants"]:
        _show_variant(variant, report["labels"])


def _show_variant(variant: dict[str, Any], labels: Sequence[str]) -> None:
    confusion = variant["confusion"]
    print_fields(
        {
            f"{variant['name']} fused": _fused(variant["fusion"]),
            f"{variant['name']} mistakes": _mistakes(confusion, labels),
        }
    )
    worst = sorted(variant["layers"], key=lambda layer: layer["sqnr_db"])[:WORST]
    if worst:
        names = _layer_names(worst)
        print_table(
            (f"{variant['name']}: worst layers", "operator", "SQNR dB", "runs in"),
            [
                (
                    name,
                    layer["op"],
                    f"{layer['sqnr_db']:.1f}",
                    "integers" if layer["integer"] else "float",
                )
                for name, layer in zip(names, worst, strict=True)
            ],
            "",
        )
    if confusion is not None and confusion["classes"] <= MATRIX_CLASSES:
        _show_matrix(variant["name"], confusion, labels)


def _layer_names(layers: Sequence[dict[str, Any]]) -> list[str]:
    from converter.page.markup import without_common_path

    return without_common_path([each["name"].removeprefix(f"{each['op']}:") for each in layers])


def _fused(fusion: dict[str, Any] | None) -> str:
    if fusion is None:
        return ""
    total = fusion["integer"] + fusion["floating"]
    names = ", ".join(fusion["left_float"][:WORST])
    more = f"; left in float: {names}" if names else ""
    return f"{fusion['integer']} of {total} layers run in integers{more}"


def _coverage(coverage: Sequence[dict[str, Any]]) -> str:
    worst = sorted(coverage, key=lambda each: -each["outside"])[:WORST]
    return ", ".join(
        f"{each['tensor']} in [{each['low']:.4g}, {each['high']:.4g}],"
        f" {each['outside']:.2f} % of evaluation outside"
        for each in worst
    )


def _tried(candidates: Sequence[dict[str, Any]]) -> str:
    if not candidates:
        return ""
    chosen = [f"{c['name']} at {c['sqnr_db']:.1f} dB" for c in candidates if c["chosen"]]
    more = f", chosen: {'; '.join(chosen)}" if chosen else ""
    return f"{_count(len(candidates), 'candidate')}{more}"


def _mistakes(confusion: dict[str, Any] | None, labels: Sequence[str]) -> str:
    if confusion is None:
        return ""
    wrong = sorted((c for c in confusion["cells"] if c[0] != c[1]), key=lambda c: -c[2])
    if not wrong:
        return "none"
    shown = ", ".join(f"{_name(labels, a)} as {_name(labels, b)} {n}x" for a, b, n in wrong[:WORST])
    return f"{_count(sum(c[2] for c in wrong), 'sample')}: {shown}"


def _show_matrix(variant: str, confusion: dict[str, Any], labels: Sequence[str]) -> None:
    counts = {(label, answer): count for label, answer, count in confusion["cells"]}
    places = range(confusion["classes"])
    print_table(
        (f"{variant}: label", *(_name(labels, place) for place in places)),
        [
            (_name(labels, label), *(counts.get((label, answer), "\u00b7") for answer in places))
            for label in places
        ],
        "",
    )


def _count(count: int, noun: str) -> str:
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def _name(labels: Sequence[str], place: int) -> str:
    return labels[place][:16] if 0 <= place < len(labels) else str(place)
