"""A release without int8, for models that int8 does not suit: trees, and very small networks.

Owns what is said about them: the figures of the float model that ships, and the measured reason in
the gate's record. The gate judges them as it judges int8.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import metadata

import msgspec
import numpy as np
from numpy.typing import NDArray

from contract.manifest import GateRecord
from converter import bundle, gate
from converter.datasets import Data
from converter.errors import UnsupportedTensor
from converter.evaluate import compare
from converter.evidence.golden import FLOAT_TOLERANCE
from converter.frontends.forest import Shrunk, shrink
from converter.frontends.loading import Opened
from converter.latency import Latency
from converter.outputs import find_classes, output_specs
from converter.report import EvaluationReport, ModelFigures, Quantiser, VariantReport
from converter.reporting import Measured, confusion, coverage, data_summary, source_record
from converter.request import ConvertRequest
from converter.sessions import Runner
from converter.source import SourceModel
from converter.stopwatch import Stopwatch, Timed

FLOAT = "onnx-fp32"


@dataclass(frozen=True)
class FloatRelease:
    """The float model that ships, and what was measured of it beside the one that came."""

    data: bytes
    reason: str
    measured: Measured
    latency: Latency


def small_release(
    data: bytes, measured: Measured, labels: NDArray[np.int64] | None, latency: Latency
) -> FloatRelease:
    """The float model itself, since int8 was measured to be slower."""
    ratio = latency.p50_ms / latency.p50_ms_float32
    reference, classes = measured.reference, measured.classes
    same = Measured(compare(reference, reference, labels, classes), reference, reference, classes)
    own = Latency(latency.p50_ms_float32, latency.p50_ms_float32, latency.rounds)
    return FloatRelease(data, f"float32, since int8 takes {ratio:.2f} times as long", same, own)


def tree_release(
    request: ConvertRequest, opened: Opened, data: Data, stopwatch: Stopwatch
) -> FloatRelease:
    """The smallest ensemble that passes the gate, or the whole one where none does."""
    source, trees = opened.onnx, opened.sources.trees
    if source is None or trees is None:
        raise UnsupportedTensor(f"{request.model}: not a tree ensemble")
    whole = Runner(source.data, source.batch)
    made = list(shrink(source.data, trees, data.calibration, request.max_drop))
    if not made:
        made = [Shrunk(source.data, 1, 1, 100.0)]
    for shrunk in made:
        runner = Runner(shrunk.data, source.batch)
        measured = evaluate_float(request, whole, runner, data)
        if gate.decide(measured.comparison, request.max_drop).passed:
            break
    latency = stopwatch.time(
        FLOAT, Timed(runner, shrunk.data), Timed(whole, source.data), data.evaluation
    )
    share = 100 * len(shrunk.data) / len(source.data)
    reason = f"{shrunk.reason}; {len(shrunk.data)} bytes, {share:.0f} % of the whole"
    return FloatRelease(shrunk.data, reason, measured, latency)


def evaluate_float(request: ConvertRequest, whole: Runner, runner: Runner, data: Data) -> Measured:
    """The smaller model beside the whole one on the evaluation samples."""
    reference, answers = whole.run(data.evaluation), runner.run(data.evaluation)
    classes = find_classes(output_specs(reference, whole.batch), request.labels)
    comparison = compare(reference, answers, data.evaluation.labels, classes)
    return Measured(comparison, reference, answers, classes)


def report_float(
    request: ConvertRequest,
    source: SourceModel,
    data: Data,
    made: FloatRelease,
    record: GateRecord,
    notes: tuple[str, ...],
) -> EvaluationReport:
    """The bundle's `report.json`."""
    measured, labels = made.measured, data.evaluation.labels
    comparison = measured.comparison
    return EvaluationReport(
        family=request.family,
        version=request.version,
        source=source_record(source),
        data=data_summary(data),
        figures=ModelFigures(
            agreement=comparison.agreement,
            sqnr_db=comparison.sqnr_db,
            bytes=len(made.data),
            bytes_float32=len(source.data),
            accuracy=comparison.accuracy,
            accuracy_float32=comparison.accuracy_float32,
        ),
        gate=record,
        quantiser=Quantiser(
            onnxruntime=metadata.version("onnxruntime"),
            onnx=metadata.version("onnx"),
            activations="float32",
            weights="float32",
            ranges="none",
            integer_layers=0,
            float_layers=0,
            notes=[made.reason, *notes],
        ),
        labels=list(request.labels),
        variants=[
            VariantReport(
                name=FLOAT,
                runtime="onnxruntime",
                bytes=len(made.data),
                agreement=comparison.agreement,
                sqnr_db=comparison.sqnr_db,
                accuracy=comparison.accuracy,
                confusion=confusion(measured.answers, labels, measured.classes),
            )
        ],
        coverage=coverage(data),
        confusion_float32=confusion(measured.reference, labels, measured.classes),
    )


def artifact_float(
    made: FloatRelease, source: SourceModel, data: Data, report: EvaluationReport
) -> bundle.Artifact:
    """What ships, with its own answers as golden samples."""
    figures = report.figures
    evidence = {
        "agreement": figures.agreement,
        "bytes": float(figures.bytes),
        "bytes_float32": float(figures.bytes_float32),
    }
    if figures.accuracy is not None and figures.accuracy_float32 is not None:
        evidence["accuracy"] = figures.accuracy
        evidence["accuracy_float32"] = figures.accuracy_float32
    answers = Runner(made.data, source.batch).run(data.calibration)
    return bundle.Artifact(FLOAT, made.data, answers, FLOAT_TOLERANCE, evidence)


def with_reason(record: GateRecord, made: FloatRelease) -> GateRecord:
    """The record, saying why there is no int8 in front of what was overruled."""
    reason = "; ".join(filter(None, (made.reason, record.reason)))
    return msgspec.structs.replace(record, reason=reason[: gate.MAX_REASON])
