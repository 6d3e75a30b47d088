"""The page as a whole: what it shows, what it must never hold, and that it has one form."""

from __future__ import annotations

import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import msgspec
import pytest

from contract.manifest import GateRecord
from converter.page import render
from converter.report import EvaluationReport, FusionAudit, VariantLatency
from tests.converter.page.reports import WORDS, bare, full, measurement

PROJECT = Path(__file__).parents[3]
HOSTILE = "\"'><script>alert(1)</script><img src=x onerror=alert(2)>"
VOID = {"meta", "br", "hr"}


class Outline(HTMLParser):
    """Tags, attributes and text; fails when a tag is closed that is not open."""

    def __init__(self, page: bytes) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.attributes: set[str] = set()
        self.words: list[str] = []
        self.feed(page.decode("utf-8"))
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes |= {name for name, _ in attrs}
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes |= {name for name, _ in attrs}

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(self.words)


def test_every_part_of_the_evidence_is_on_the_page() -> None:
    page = Outline(render(full()))
    for words in (
        "words:3",
        "passed",
        "91.20 %",
        "onnx-int8",
        "tflite-int8",
        "block_5/depthwise_conv2d (Conv) is furthest from float32",
        "Left in float: model/block_9/depthwise_conv2d.",
        "equalised, percentile 99.99 (chosen)",
        "Calibration coverage",
        "conv_3/relu",
        "Classes: onnx-int8",
        "silence",
        "onnxruntime 1.31.1",
    ):
        assert words in page.text, words
    assert page.tags.count("svg") >= 12


def test_a_report_without_the_newer_figures_is_a_page_too() -> None:
    page = Outline(render(bare()))
    assert "words:3" in page.text
    assert "Error by layer" not in page.text
    assert "Candidates" not in page.text


def test_every_picture_says_what_it_is() -> None:
    page = render(full()).decode()
    assert page.count("<svg") == page.count('role="img" aria-label="')


def test_latency_stands_beside_float32_with_its_host_and_its_day() -> None:
    page = Outline(render(full()))
    assert "Latency on the host that converted" in page.text
    for words in (
        "0.25 \u00d7",
        "0.50 \u00d7",
        "0.050 ms",
        "0.100 ms",
        "0.200 ms",
        "x86_64, 2 CPUs, onnxruntime 1.31.1, 2026-11-20",
        "x86_64, 2 CPUs, litert 2.1.6, 2026-11-20",
    ):
        assert words in page.text, words


def test_the_latency_at_the_top_is_of_int8() -> None:
    half = msgspec.structs.replace(full().variants[0], name="onnx-fp16")
    page = Outline(render(msgspec.structs.replace(full(), variants=[half, *full().variants])))
    assert "of float32, onnx-int8" in page.text
    alone = Outline(render(msgspec.structs.replace(full(), variants=[half])))
    assert "of float32, onnx-fp16" in alone.text


def test_latency_is_only_there_when_it_was_measured() -> None:
    untimed = [msgspec.structs.replace(v, latency=None) for v in full().variants]
    page = render(msgspec.structs.replace(full(), variants=untimed, measurements=[]))
    assert b"Latency" not in page
    assert b"latency" not in page


def test_a_latency_of_nothing_has_no_ratio() -> None:
    variant = full().variants[0]
    timed = VariantLatency(p50_ms=0.05, p50_ms_float32=0.0)
    variants = [msgspec.structs.replace(variant, latency=timed)]
    page = Outline(render(msgspec.structs.replace(full(), variants=variants)))
    assert "0.050 ms" in page.text
    assert "of float32, onnx-int8" not in page.text


def test_a_day_that_no_calendar_has_is_drawn_too() -> None:
    late = measurement(measured_at_ms=1 << 53)
    page = Outline(render(msgspec.structs.replace(full(), measurements=[late] * 9_000)))
    assert page.text.count("an unknown day") == 1


def _hostile() -> EvaluationReport:
    """Hostile words in every text of the report."""

    def turn(value: object) -> object:
        if isinstance(value, str):
            return value if value == full().source.digest else HOSTILE
        if isinstance(value, list):
            return [turn(item) for item in value]
        if isinstance(value, dict):
            return {key: turn(item) for key, item in value.items()}
        return value

    return msgspec.convert(turn(msgspec.to_builtins(full())), EvaluationReport)


def test_hostile_words_stay_words() -> None:
    page = Outline(render(_hostile()))
    assert not {"script", "img", "iframe", "a", "link", "object", "form"} & set(page.tags)
    assert not {name for name in page.attributes if name.startswith("on")}
    assert not {"href", "src", "style"} & page.attributes
    assert HOSTILE in page.text


def test_the_page_forbids_itself_scripts_and_requests() -> None:
    page = render(full()).decode()
    assert "default-src &#x27;none&#x27;" in page
    assert "url(" not in page
    assert "://" not in page
    assert "@import" not in page


def test_the_page_fits_a_phone_and_follows_the_dark() -> None:
    page = render(full()).decode()
    assert 'name="viewport" content="width=device-width' in page
    assert "prefers-color-scheme:dark" in page


@pytest.mark.parametrize(
    ("passed", "forced", "word"),
    [(True, False, "passed"), (False, False, "failed"), (False, True, "forced")],
)
def test_the_verdict_stands_at_the_top(passed: bool, forced: bool, word: str) -> None:
    record = GateRecord(
        metric="accuracy",
        baseline=91.5,
        measured=80.0,
        max_drop=1.0,
        passed=passed,
        forced=forced,
        reason="GateFailed: too low" if forced else "",
    )
    page = Outline(render(msgspec.structs.replace(bare(), gate=record)))
    assert word in page.text
    assert ("Forced by the owner of the model: GateFailed: too low" in page.text) == forced


def test_thousands_of_layers_and_names_stay_a_page_of_bounded_length() -> None:
    report = full()
    variant = report.variants[0]
    many = msgspec.structs.replace(
        variant,
        layers=variant.layers * 2_000,
        fusion=FusionAudit(integer=0, floating=9_000, left_float=["layer"] * 9_000),
    )
    page = render(
        msgspec.structs.replace(report, variants=[many], coverage=report.coverage * 5_000)
    )
    assert len(page) < 1 << 20
    assert b"and 8960 more" in page


def test_equal_reports_give_equal_bytes_in_any_process() -> None:
    program = (
        "import hashlib; from converter.page import render;"
        "from tests.converter.page.reports import full;"
        "print(hashlib.sha256(render(full())).hexdigest())"
    )
    found = {
        subprocess.run(
            [sys.executable, "-c", program],
            env={"PYTHONHASHSEED": seed, "LC_ALL": locale},
            cwd=PROJECT,
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed, locale in (("1", "C"), ("2", "C.UTF-8"))
    }
    assert len(found) == 1


def test_names_of_classes_are_those_of_the_report() -> None:
    page = Outline(render(full()))
    assert all(word in page.text for word in WORDS)
