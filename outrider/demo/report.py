"""The demo's report: figures, plots and the story in one HTML file, the events as JSON lines, and
the bundles, in a folder that needs nothing else to be read."""

from __future__ import annotations

import base64
import html
import io
import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from outrider.demo.output import Narrator
from outrider.demo.record import Figures
from outrider.demo.stage import Stage
from outrider.terminal import when

STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem;
       color: #1b1f24; }
h1 { font-size: 1.6rem; } h2 { font-size: 1.15rem; margin-top: 2rem; }
table { border-collapse: collapse; width: 100%; font-size: .9rem; }
td, th { text-align: left; padding: .25rem .6rem; border-bottom: 1px solid #d9dee3; }
td.n, th.n { text-align: right; font-variant-numeric: tabular-nums; }
img { max-width: 100%; } .muted { color: #5b6570; }
"""
BLUE, GREY, RED, GREEN = "#2166ac", "#b8bfc6", "#b2182b", "#1b7837"


def write_report(
    folder: Path, stage: Stage, narrator: Narrator, figures: Figures, seconds: float
) -> None:
    """Write report.html, events.jsonl and the bundles; an earlier report is replaced."""
    folder.mkdir(parents=True, exist_ok=True)
    events = stage.events()
    with (folder / "events.jsonl").open("w") as file:
        for event in events:
            file.write(json.dumps(event, sort_keys=True) + "\n")
    bundles = folder / "bundles"
    shutil.rmtree(bundles, ignore_errors=True)
    bundles.mkdir()
    for bundle in sorted(stage.workshop.directory.glob("*.bundle")):
        shutil.copy2(bundle, bundles)
    page = _page(events, narrator, figures, seconds)
    (folder / "report.html").write_text(page)


def _page(
    events: list[dict[str, Any]], narrator: Narrator, figures: Figures, seconds: float
) -> str:
    parts = [
        f"<h1>Outrider: the whole path in {seconds:.0f} s</h1>",
        '<p class="muted">Every figure was measured in this run, on real parts.</p>',
    ]
    for scene in narrator.scenes:
        parts.append(f"<h2>{scene.number}. {html.escape(scene.title)}</h2><ul>")
        parts += [f"<li>{html.escape(line)}</li>" for line in scene.lines]
        parts.append("</ul>")
    parts += _plots(events, figures)
    parts += ["<h2>Conversions</h2>", _conversions(figures)]
    parts += ["<h2>Inference, device by device</h2>", _served(figures)]
    parts += ["<h2>Refusals</h2>", _refusals(figures)]
    parts += ["<h2>Outcomes</h2>", _outcomes(events)]
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Outrider demo</title>'
        f"<style>{STYLE}</style></head><body>{''.join(parts)}</body></html>\n"
    )


def _plots(events: list[dict[str, Any]], figures: Figures) -> list[str]:
    found = ["<h2>What each device served, over the run</h2>", _picture(6, 2.6, _timeline(events))]
    found += ["<h2>Bytes fetched for digits:2</h2>", _picture(6, 2.2, _bytes(figures))]
    if figures.class_shares:
        found += [
            "<h2>The canary's answers, release by release</h2>",
            _picture(6, 2.6, _classes(figures)),
        ]
    return found


def _picture(width: float, height: float, draw: Callable[[Any], None]) -> str:
    """One plot as an image inside the page."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.spines[["top", "right"]].set_visible(False)
    draw(axes)
    data = io.BytesIO()
    figure.savefig(data, format="png", dpi=160)
    text = base64.b64encode(data.getvalue()).decode()
    return f'<p><img alt="" src="data:image/png;base64,{text}"></p>'


def _timeline(events: list[dict[str, Any]]) -> Callable[[Any], None]:
    colours = {"committed": GREEN, "probation": BLUE, "rolled-back": RED}
    marks = {"rejected": "x", "failed": "x"}

    def draw(axes: Any) -> None:
        if not events:
            return
        start = min(event["at_ms"] for event in events)
        names = sorted({event["device"] for event in events})
        for event in events:
            at, row = (event["at_ms"] - start) / 1000, names.index(event["device"])
            phase = event["phase"]
            if phase in colours:
                axes.plot(at, row, "o", color=colours[phase], markersize=5)
                if phase == "committed":
                    label = event["target"].partition("/")[2]
                    axes.annotate(label, (at, row), (0, 5), textcoords="offset points", fontsize=7)
            elif phase in marks:
                axes.plot(at, row, marks[phase], color=RED, markersize=6)
        axes.set_yticks(range(len(names)), names)
        axes.set_ylim(-0.5, len(names) - 0.2)
        axes.set_xlabel("seconds; green: committed, blue: on probation, red: refused or taken back")

    return draw


def _bytes(figures: Figures) -> Callable[[Any], None]:
    def draw(axes: Any) -> None:
        names = [one.device for one in figures.fetched]
        axes.barh(names, [one.bytes_full for one in figures.fetched], color=GREY)
        axes.barh(names, [one.bytes_fetched for one in figures.fetched], color=BLUE)
        axes.set_xlabel("bytes; blue: fetched, grey: the whole release")

    return draw


def _classes(figures: Figures) -> Callable[[Any], None]:
    def draw(axes: Any) -> None:
        targets = list(figures.class_shares)
        width = 0.8 / max(1, len(targets))
        for index, target in enumerate(targets):
            shares = figures.class_shares[target]
            places = [n + index * width for n in range(len(shares))]
            colour = RED if target.endswith("/3") else (GREY, BLUE, RED, GREEN)[index % 4]
            axes.bar(places, shares, width, label=target, color=colour)
        axes.set_xticks([n + 0.4 - width / 2 for n in range(10)], [str(n) for n in range(10)])
        axes.set_xlabel("class")
        axes.set_ylabel("share of answers")
        axes.legend(frameon=False, fontsize=8)

    return draw


def _conversions(figures: Figures) -> str:
    return _table(
        (
            "release",
            "bytes int8",
            "bytes float32",
            "accuracy int8 %",
            "float32 %",
            "p50 int8 us",
            "float32 us",
        ),
        [
            (
                f"digits:{one.version}",
                f"{one.bytes_int8:,}",
                f"{one.bytes_float32:,}",
                f"{one.accuracy_int8:.2f}",
                f"{one.accuracy_float32:.2f}",
                f"{one.p50_ms_int8 * 1000:.0f}",
                f"{one.p50_ms_float32 * 1000:.0f}",
            )
            for one in figures.conversions
        ],
    )


def _served(figures: Figures) -> str:
    return _table(
        ("device", "release", "accuracy %", "p50 ms", "p95 ms"),
        [
            (
                one.device,
                f"digits:{one.version}",
                f"{one.accuracy:.2f}",
                f"{one.p50_ms:.2f}",
                f"{one.p95_ms:.2f}",
            )
            for one in figures.served
        ],
    )


def _refusals(figures: Figures) -> str:
    return _table(
        ("attack", "device", "cause that it named"),
        [
            (name, device, cause)
            for name, causes in figures.refusals.items()
            for device, cause in sorted(causes.items())
        ],
    )


def _outcomes(events: list[dict[str, Any]]) -> str:
    return _table(
        ("at", "device", "release", "outcome", "cause", "detail"),
        [
            (
                when(event["at_ms"]),
                event["device"],
                event["target"],
                event["outcome"],
                event["cause"] or "",
                event["detail"],
            )
            for event in events
            if event["outcome"]
        ],
    )


def _table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    cells = "".join(f"<th>{html.escape(name)}</th>" for name in head)
    body = "".join(
        "<tr>" + "".join(f"<td>{html.escape(str(value))}</td>" for value in row) + "</tr>"
        for row in rows
    )
    return f"<table><tr>{cells}</tr>{body}</table>"
