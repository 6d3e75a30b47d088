"""Evaluation reports to draw: one with everything in it, and a bare one; no model is run."""

from __future__ import annotations

import msgspec
import numpy as np

from contract.manifest import GateRecord, Source
from converter.confusion import confusion_of
from converter.measurement import Measurement, Side, Subject
from converter.report import (
    Candidate,
    Coverage,
    DataSummary,
    EvaluationReport,
    FusionAudit,
    InputRange,
    LayerError,
    ModelFigures,
    Quantiser,
    VariantLatency,
    VariantReport,
)

WORDS = [
    "silence",
    "unknown",
    "yes",
    "no",
    "up",
    "down",
    "left",
    "right",
    "on",
    "off",
    "stop",
    "go",
]


def bare() -> EvaluationReport:
    """What a report held before it held pictures."""
    return EvaluationReport(
        family="words",
        version="3",
        source=Source(name="kws.onnx", format="onnx", length=100_000, digest="ab" * 32),
        data=DataSummary(
            calibration_samples=200,
            evaluation_samples=600,
            labelled=True,
            held_out=False,
            inputs={"input": InputRange(low=-1, high=1, evaluation_low=-1, evaluation_high=1)},
        ),
        figures=ModelFigures(
            agreement=99.5,
            sqnr_db=31.4,
            bytes=36_000,
            bytes_float32=100_000,
            accuracy=91.2,
            accuracy_float32=91.5,
        ),
        gate=GateRecord(metric="accuracy", baseline=91.5, measured=91.2, max_drop=1.0, passed=True),
        quantiser=Quantiser(
            onnxruntime="1.31.1",
            onnx="1.23.0",
            activations="uint8",
            integer_layers=9,
            float_layers=1,
        ),
    )


def full() -> EvaluationReport:
    """Every part of the page has something to show."""
    return msgspec.structs.replace(
        bare(),
        labels=WORDS,
        variants=[_variant("onnx-int8", 36_000, 1), _variant("tflite-int8", 46_000, 2)],
        candidates=[
            Candidate(name="minimum and maximum", sqnr_db=27.5, agreement=98.2, bytes=36_000),
            Candidate(
                name="equalised, percentile 99.99",
                sqnr_db=31.4,
                agreement=99.5,
                bytes=36_000,
                chosen=True,
                note="cross-layer equalisation of 4 pairs",
            ),
        ],
        coverage=[
            Coverage(tensor="input", low=-1, high=1, seen_low=-0.9, seen_high=1.02, outside=0.01),
            Coverage(tensor="conv_3/relu", low=0, high=6, seen_low=0, seen_high=9.5, outside=2.31),
        ],
        confusion_float32=confusion_of(*_answers(0, 0.06), len(WORDS)),
        measurements=[measurement(), measurement("litert 2.1.6")],
    )


def measurement(runtime: str = "onnxruntime 1.31.1", **changes: object) -> Measurement:
    """One latency that somebody measured on a small host."""
    digest = bare().source.digest
    subject = Subject(
        artifact=Side(digest=digest, runtime=runtime),
        float32=Side(digest=digest, runtime="onnxruntime 1.31.1"),
        threads=1,
        warm_up=10,
        rounds=200,
        budget_s=2.0,
    )
    found = Measurement(
        subject=subject,
        host="x86_64, 2 CPUs",
        p50_ms=0.05,
        p50_ms_float32=0.2,
        calls=200,
        measured_at_ms=1_795_168_800_000,
    )
    return msgspec.structs.replace(found, **changes)


def _variant(name: str, length: int, seed: int) -> VariantReport:
    layers = [
        LayerError(
            name=f"model/block_{place}/depthwise_conv2d",
            op="Conv",
            sqnr_db=38.0 - 0.9 * place - (11 if place == 5 else 0),
            integer=place != 9,
        )
        for place in range(16)
    ]
    return VariantReport(
        name=name,
        runtime="onnxruntime" if name.startswith("onnx") else "litert",
        bytes=length,
        agreement=99.5 - seed / 4,
        sqnr_db=31.4,
        accuracy=91.2 - seed / 10,
        layers=layers,
        fusion=FusionAudit(integer=15, floating=1, left_float=["model/block_9/depthwise_conv2d"]),
        confusion=confusion_of(*_answers(seed, 0.08), len(WORDS)),
        latency=VariantLatency(p50_ms=0.05 * seed, p50_ms_float32=0.2),
    )


def _answers(seed: int, wrong: float) -> tuple[list[int], list[int]]:
    draw = np.random.default_rng(seed)
    labels = [place % len(WORDS) for place in range(600)]
    answers = [
        int(draw.integers(len(WORDS))) if draw.random() < wrong else label for label in labels
    ]
    return labels, answers
