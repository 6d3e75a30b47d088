"""The page as a whole: its head, its style, and the order of its parts.

The page forbids itself every script and every request, whatever a label may hold.
"""

from __future__ import annotations

from contract.manifest import GateRecord
from converter.page.classes import classes_section
from converter.page.markup import decibel, esc, percent, points, times
from converter.page.sections import (
    candidates_section,
    coverage_section,
    fusion_section,
    gate_section,
    latency_section,
    layers_section,
    making_section,
    ratio_of,
    variants_section,
)
from converter.page.style import STYLE
from converter.report import EvaluationReport

POLICY = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"


def render(report: EvaluationReport) -> bytes:
    """UTF-8 HTML: equal reports, equal bytes."""
    title = f"{report.family}:{report.version}"
    parts = [_head(report, title), variants_section(report), gate_section(report.gate)]
    parts.append(latency_section(report))
    for variant in report.variants:
        parts += [layers_section(variant), fusion_section(variant)]
    parts += [candidates_section(report.candidates), coverage_section(report.coverage, report.data)]
    parts += [
        classes_section(variant, report.confusion_float32, report.labels)
        for variant in report.variants
    ]
    parts.append(making_section(report))
    page = (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{esc(POLICY)}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta name="color-scheme" content="light dark">'
        f"<title>{esc(title)}: evaluation</title><style>{STYLE}</style></head>\n"
        f"<body><main>{''.join(part for part in parts if part)}</main></body></html>\n"
    )
    return page.encode("utf-8")


def _head(report: EvaluationReport, title: str) -> str:
    word, tone = verdict(report.gate)
    figures = report.figures
    ratio = 100 * figures.bytes / max(figures.bytes_float32, 1)
    cards = [("size", f"{ratio:.0f} %", "of float32"), ("agrees", percent(figures.agreement), "")]
    if figures.accuracy is not None and figures.accuracy_float32 is not None:
        change = f"{points(figures.accuracy - figures.accuracy_float32)} points"
        cards.insert(0, ("accuracy", percent(figures.accuracy), change))
    cards.append(("SQNR", decibel(figures.sqnr_db), ""))
    timed = [v for v in report.variants if ratio_of(v.latency) is not None]
    # int8 first: float16 stands in front of it for devices that this host is none of.
    for shown in sorted(timed, key=lambda v: not v.name.endswith("-int8"))[:1]:
        cards.append(("latency", times(ratio_of(shown.latency)), f"of float32, {shown.name}"))
    drawn = "".join(
        f'<div class="card"><span>{esc(name)}</span><b>{esc(value)}</b><i>{esc(more)}</i></div>'
        for name, value, more in cards
    )
    return (
        f'<header><h1>{esc(title)} <span class="badge {tone}">{esc(word)}</span></h1>'
        f'<p class="muted">{esc(report.source.name)}, evaluated on'
        f" {report.data.evaluation_samples:,} samples</p>"
        f'<div class="cards">{drawn}</div></header>'
    )


def verdict(record: GateRecord) -> tuple[str, str]:
    """The gate in one word, and its tone."""
    if record.forced:
        return "forced", "warn"
    return ("passed", "good") if record.passed else ("failed", "bad")
