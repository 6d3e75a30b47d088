"""The parts of the page, each from the report's own structs to markup; empty without figures."""

from __future__ import annotations

from collections.abc import Sequence

from contract.manifest import GateRecord
from converter.measurement import places
from converter.page.markup import (
    DASH,
    decibel,
    figure,
    milliseconds,
    number,
    paragraph,
    percent,
    plural,
    points,
    section,
    size,
    table,
    times,
    without_common_path,
)
from converter.page.pictures import Bar, Span, bars, columns, gate, parts_of, spans
from converter.report import (
    Candidate,
    Coverage,
    DataSummary,
    EvaluationReport,
    LayerError,
    Quantiser,
    VariantLatency,
    VariantReport,
)

WORST = 12
"""Layers that are drawn and named; `report.json` has all of them."""
MAX_ROWS = 40
MAX_COLUMNS = 2_000
_OUTSIDE = 1.0
"""Percent of the values outside of the calibrated range from which on it is worth a look."""


def variants_section(report: EvaluationReport) -> str:
    """float32 beside each variant: pictures of size and quality, then the figures."""
    shown = report.variants
    if not shown:
        return ""
    before = report.figures.bytes_float32
    sizes = [Bar("float32", before, size(before), "ref")]
    sizes += [Bar(v.name, v.bytes, size(v.bytes)) for v in shown]
    pictures = [figure("Size", bars("size of each variant", sizes))]
    base = report.figures.accuracy_float32
    if base is not None:
        rows = [Bar("float32", base, percent(base), "ref")]
        rows += [Bar(v.name, v.accuracy or 0.0, percent(v.accuracy)) for v in shown]
        pictures.append(figure("Accuracy", bars("accuracy of each variant", rows, 0.0, 100.0)))
    agree = [Bar(v.name, v.agreement, percent(v.agreement)) for v in shown]
    pictures.append(
        figure("Agreement with float32", bars("agreement of each variant", agree, 0.0, 100.0))
    )
    noise = [Bar(v.name, v.sqnr_db, decibel(v.sqnr_db)) for v in shown]
    pictures.append(figure("SQNR: signal over the noise of quantisation", bars("SQNR", noise)))
    return section("Variants", _side_by_side(pictures), _variant_table(report))


def _variant_table(report: EvaluationReport) -> str:
    figures = report.figures
    first = (
        "float32",
        DASH,
        size(figures.bytes_float32),
        "100 %",
        percent(figures.accuracy_float32),
    )
    rows = [(*first, DASH, DASH, DASH)]
    for each in report.variants:
        ratio = 100 * each.bytes / max(figures.bytes_float32, 1)
        drop = DASH
        if each.accuracy is not None and figures.accuracy_float32 is not None:
            drop = points(each.accuracy - figures.accuracy_float32)
        rows.append(
            (
                each.name,
                each.runtime,
                size(each.bytes),
                f"{ratio:.0f} %",
                percent(each.accuracy),
                drop,
                percent(each.agreement),
                decibel(each.sqnr_db),
            )
        )
    columns = ("variant", "runtime", "size", "of float32", "accuracy", "points", "agrees", "SQNR")
    return table(columns, rows, texts=2)


def gate_section(record: GateRecord) -> str:
    """The gate's verdict as a picture, and what was overruled."""
    drop = record.baseline - record.measured
    words = (
        f"{record.metric}: {record.measured:.2f} % where float32 has {record.baseline:.2f} %,"
        f" {points(-drop)} points; a loss of {record.max_drop:g} is allowed."
    )
    picture = gate(
        "accuracy gate", record.baseline, record.measured, record.max_drop, record.passed
    )
    parts = [paragraph(words), figure(f"{record.metric}, percent", picture)]
    if record.forced:
        parts.append(paragraph(f"Forced by the owner of the model: {record.reason}", "warn"))
    return section("Gate", *parts)


def latency_section(report: EvaluationReport) -> str:
    """Medians by variant, each beside the float32 that it took turns with; where and when."""
    timed = [(v.name, v.latency) for v in report.variants if v.latency is not None]
    if not timed:
        return ""
    base = timed[0][1].p50_ms_float32
    rows = [Bar("float32", base, milliseconds(base), "ref")]
    rows += [Bar(name, found.p50_ms, milliseconds(found.p50_ms)) for name, found in timed]
    body = [
        (
            name,
            milliseconds(found.p50_ms),
            milliseconds(found.p50_ms_float32),
            times(ratio_of(found)),
        )
        for name, found in timed
    ]
    return section(
        "Latency on the host that converted",
        *(paragraph(words, "muted") for words in places(report.measurements[:MAX_ROWS])),
        figure("Median of one call, one sample, one thread of the CPU", bars("latency", rows)),
        table(("variant", "one call", "float32, by turns", "of float32"), body),
    )


def ratio_of(found: VariantLatency | None) -> float | None:
    """How long one call takes, float32 being 1; None where that was not measured."""
    if found is None or found.p50_ms_float32 <= 0:
        return None
    return found.p50_ms / found.p50_ms_float32


def layers_section(variant: VariantReport) -> str:
    """The worst layers by name, and all of them in the order of the graph."""
    if not variant.layers:
        return ""
    worst = worst_layers(variant.layers)
    top = max(layer.sqnr_db for layer in variant.layers)
    names = layer_names(worst)
    rows = [
        Bar(f"{name} ({x.op})", x.sqnr_db, decibel(x.sqnr_db), _layer_tone(x))
        for name, x in zip(names, worst, strict=True)
    ]
    parts = [
        paragraph(
            f"{names[0]} ({worst[0].op}) is furthest from float32, at"
            f" {decibel(worst[0].sqnr_db)}; the lower, the worse."
        ),
        figure("The worst layers", bars("SQNR of the worst layers", rows, 0.0, max(top, 1.0))),
    ]
    marked = worst[: min(3, max(1, len(variant.layers) // 4))]
    every = [
        Bar(x.name, x.sqnr_db, decibel(x.sqnr_db), "bad" if x in marked else _layer_tone(x))
        for x in variant.layers[:MAX_COLUMNS]
    ]
    picture = columns("SQNR of every layer", every, 0.0, max(top, 1.0))
    caption = "Every layer, from the input to the output; red: the worst; grey: left in float"
    parts.append(figure(caption, picture))
    return section(f"Error by layer: {variant.name}", _side_by_side(parts[1:], parts[0]))


def worst_layers(layers: Sequence[LayerError], count: int = WORST) -> list[LayerError]:
    """The layers furthest from float32, the worst first."""
    return sorted(layers, key=lambda layer: layer.sqnr_db)[:count]


def layer_names(layers: Sequence[LayerError]) -> list[str]:
    """Their names as short as they can still be told apart; the operator stands beside them."""
    return without_common_path([layer.name.removeprefix(f"{layer.op}:") for layer in layers])


def _layer_tone(layer: LayerError) -> str:
    return "a" if layer.integer else "ref"


def fusion_section(variant: VariantReport) -> str:
    """How much of the graph the runtime really runs in integers."""
    found = variant.fusion
    if found is None or found.integer + found.floating == 0:
        return ""
    pieces = [("in integers", found.integer, "good"), ("left in float", found.floating, "bad")]
    parts = [figure("Layers as the runtime fuses them", parts_of("fusion audit", pieces))]
    if found.left_float:
        more = len(found.left_float) - MAX_ROWS
        names = ", ".join(found.left_float[:MAX_ROWS])
        parts.append(paragraph(f"Left in float: {names}{f' and {more} more' if more > 0 else ''}."))
    elif not found.floating:
        parts.append(paragraph("Every layer that can be quantised runs in integers.", "muted"))
    return section(f"Fusion audit: {variant.name}", *parts)


def candidates_section(candidates: Sequence[Candidate]) -> str:
    """What was tried, and what was taken."""
    if not candidates:
        return ""
    shown = candidates[:MAX_ROWS]
    rows = [
        Bar(c.name, c.sqnr_db, decibel(c.sqnr_db), "good" if c.chosen else "ref") for c in shown
    ]
    head = ["candidate", "SQNR", "agrees"]
    body = [
        [c.name + (" (chosen)" if c.chosen else ""), decibel(c.sqnr_db), percent(c.agreement)]
        for c in shown
    ]
    if any(c.bytes for c in shown):
        head.append("size")
        body = [[*row, size(c.bytes)] for row, c in zip(body, shown, strict=True)]
    notes = [paragraph(f"{c.name}: {c.note}", "muted") for c in shown if c.note]
    return section(
        "Candidates",
        paragraph("Judged on calibration samples that none of them was fitted on.", "muted"),
        figure("SQNR of each candidate", bars("SQNR of each candidate", rows)),
        table(head, body),
        *notes,
    )


def coverage_section(coverage: Sequence[Coverage], data: DataSummary) -> str:
    """Calibrated ranges against what evaluation saw, the least covered tensors first."""
    if not coverage:
        return ""
    shown = sorted(coverage, key=lambda c: -c.outside)[:MAX_ROWS]
    rows = [
        Span(
            c.tensor,
            c.low,
            c.high,
            c.seen_low,
            c.seen_high,
            f"{c.outside:.2f} %",
            "bad" if c.outside >= _OUTSIDE else "a",
        )
        for c in shown
    ]
    body = [
        (
            c.tensor,
            f"{number(c.low)} … {number(c.high)}",
            f"{number(c.seen_low)} … {number(c.seen_high)}",
            f"{c.outside:.2f} %",
        )
        for c in shown
    ]
    words = (
        f"Calibrated on {plural(data.calibration_samples, 'sample')}. Band: the calibrated range;"
        f" line: what {plural(data.evaluation_samples, 'evaluation sample')} reached; the figure:"
        " values outside."
    )
    return section(
        "Calibration coverage",
        paragraph(words, "muted"),
        figure("Ranges, each on its own scale", spans("calibrated and seen ranges", rows)),
        table(("tensor", "calibrated", "seen", "outside"), body),
    )


def making_section(report: EvaluationReport) -> str:
    """What went in, and with what it was made."""
    data, quantiser, source = report.data, report.quantiser, report.source
    origin = "held out of the calibration file" if data.held_out else "of their own file"
    rows = [
        ("source", f"{source.name}, {size(source.length)}, {source.format}"),
        ("source digest", source.digest),
        ("calibration", plural(data.calibration_samples, "sample")),
        (
            "evaluation",
            f"{plural(data.evaluation_samples, 'sample')}, {origin},"
            f" {'with' if data.labelled else 'without'} labels",
        ),
        ("weights", quantiser.weights),
        ("activations", quantiser.activations),
        ("ranges", quantiser.ranges),
        ("made with", _tools(quantiser)),
    ]
    notes = [("note", note) for note in quantiser.notes[:MAX_ROWS]]
    return section("How it was made", table(("", ""), [*rows, *notes], texts=2))


def _tools(quantiser: Quantiser) -> str:
    onnx = f"onnxruntime {quantiser.onnxruntime}, onnx {quantiser.onnx}"
    return ", ".join(filter(None, (onnx if quantiser.onnx else "", quantiser.tools)))


def _side_by_side(figures: Sequence[str], before: str = "") -> str:
    return f'{before}<div class="grid">{"".join(figures)}</div>'
