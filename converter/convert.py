"""Trained float model -> measured int8 bundle: the whole pipeline, read from top to bottom.

Owns the order of the steps and nothing else. Files of work live in a temporary directory; the
bundle appears by one rename at the end, so an error or Ctrl-C at any point leaves nothing behind.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from contract.manifest import GateRecord, Manifest, Source, Variant
from converter import bundle, gate, ranges
from converter.canonical import canonicalise, require_same
from converter.compact import compact
from converter.errors import Objection
from converter.evaluate import Comparison, check_labels, compare
from converter.evidence.golden import FLOAT_TOLERANCE, INT8_TOLERANCE
from converter.int8 import Int8Model, make_int8
from converter.latency import Latency, measure_latency
from converter.outputs import find_classes, output_specs
from converter.report import (
    DataSummary,
    EvaluationReport,
    InputRange,
    ModelFigures,
    Quantiser,
)
from converter.report_files import report_files
from converter.request import ConvertRequest, check_request
from converter.samples import Arrays, Samples, hold_out, read_samples
from converter.sessions import Runner
from converter.source import SourceModel, read_source

Progress = Callable[[str, float], None]
"""Called with the step's name and the share of the whole that is done, 0..1."""
INT8, FLOAT = "onnx-int8", "onnx-fp32"
_PARITY_SAMPLES = 64


@dataclass(frozen=True)
class Converted:
    """A bundle that stands under `path`. `latency` is of this run and not in the bundle."""

    path: Path
    manifest: Manifest
    manifest_digest: str
    report: EvaluationReport
    latency: Latency


@dataclass(frozen=True)
class Data:
    """The samples of one conversion. `held_out`: evaluation was cut from the calibration file."""

    calibration: Samples
    evaluation: Samples
    held_out: bool


def convert(request: ConvertRequest, progress: Progress | None = None) -> Converted:
    """Convert, measure, judge, and write the bundle; raises a `ConvertError` and writes nothing.

    An `Objection` (gate, calibration) is raised unless `request.force`; then it is recorded.
    """
    tell = progress or _say_nothing
    tell("read", 0.0)
    check_request(request)
    source = read_source(request.model)
    data = read_data(request, source)
    objections = _weigh(request.force, ranges.find_outlier(data.calibration))
    objections += _weigh(request.force, ranges.find_mismatch(data.calibration, data.evaluation))
    with tempfile.TemporaryDirectory(prefix="outrider-convert-") as directory:
        work = Path(directory)
        tell("simplify", 0.1)
        float_model = canonicalise(source, work)
        float_data, float_runner = compact(float_model), Runner(source.data, source.batch)
        _require_parity(float_runner, Runner(float_data, source.batch), data.calibration)
        tell("quantise", 0.2)
        int8 = make_int8(
            float_model,
            data.calibration,
            source.batch,
            work,
            lambda share: tell("quantise", 0.2 + 0.3 * share),
        )
    int8_runner = Runner(int8.data, source.batch)
    tell("evaluate", 0.6)
    comparison = evaluate(request, float_runner, int8_runner, data)
    objections += _weigh(request.force, gate.why_useless(comparison))
    record = gate.decide(comparison, request.max_drop)
    objections += _weigh(request.force, gate.why_failed(record))
    record = gate.overrule(record, objections)
    tell("time", 0.75)
    latency = measure_latency(int8_runner, float_runner, data.evaluation)
    tell("evidence", 0.85)
    report = make_report(request, source, data, comparison, record, int8)
    artifacts = [_int8_artifact(int8, int8_runner, data.calibration, report.figures)]
    if request.with_float:
        artifacts.append(_float_artifact(float_data, source.batch, data.calibration, report))
    manifest, digest = _write(request, source, data, report, artifacts, tell)
    tell("done", 1.0)
    return Converted(request.output, manifest, digest, report, latency)


def read_data(request: ConvertRequest, source: SourceModel) -> Data:
    """Calibration and evaluation samples that share none, checked against the model's inputs."""
    calibration = read_samples(request.calib, source.inputs)
    if request.evaluation is None:
        return Data(*hold_out(calibration), held_out=True)
    evaluation = read_samples(request.evaluation, source.inputs)
    ranges.refuse_overlap(calibration, evaluation)
    return Data(calibration, evaluation, held_out=False)


def evaluate(request: ConvertRequest, float32: Runner, int8: Runner, data: Data) -> Comparison:
    """Both models on the evaluation samples; raises `BadLabels` when labels do not fit classes."""
    reference, answers = float32.run(data.evaluation), int8.run(data.evaluation)
    classes = find_classes(output_specs(reference, float32.batch), request.labels)
    if classes is not None and data.calibration.labels is not None:
        check_labels(data.calibration.labels, classes.shape[-1])
    return compare(reference, answers, data.evaluation.labels, classes)


def make_report(
    request: ConvertRequest,
    source: SourceModel,
    data: Data,
    comparison: Comparison,
    record: GateRecord,
    int8: Int8Model,
) -> EvaluationReport:
    """The bundle's `report.json`."""
    return EvaluationReport(
        family=request.family,
        version=request.version,
        source=_source_record(source),
        data=_data_summary(data),
        figures=ModelFigures(
            agreement=comparison.agreement,
            sqnr_db=comparison.sqnr_db,
            bytes=len(int8.data),
            bytes_float32=len(source.data),
            accuracy=comparison.accuracy,
            accuracy_float32=comparison.accuracy_float32,
        ),
        gate=record,
        quantiser=Quantiser(
            onnxruntime=metadata.version("onnxruntime"),
            onnx=metadata.version("onnx"),
            activations=int8.activations,
            integer_layers=int8.audit.integer,
            float_layers=int8.audit.floating,
            notes=list(int8.notes),
        ),
    )


def _write(
    request: ConvertRequest,
    source: SourceModel,
    data: Data,
    report: EvaluationReport,
    artifacts: Sequence[bundle.Artifact],
    tell: Progress,
) -> tuple[Manifest, str]:
    reports = report_files(report)
    files = dict(reports)
    variants: list[Variant] = []
    for artifact in artifacts:
        variant, parts = bundle.build_variant(
            artifact, data.calibration, source.inputs, request.labels
        )
        variants.append(variant)
        files.update(parts)
    tell("write", 0.95)
    manifest = bundle.build_manifest(
        request, report.source, report.gate, variants, reports, _produced_by()
    )
    return manifest, bundle.write(request.output, manifest, files)


def _int8_artifact(
    int8: Int8Model, runner: Runner, calibration: Samples, figures: ModelFigures
) -> bundle.Artifact:
    evidence = {
        "agreement": figures.agreement,
        "sqnr_db": figures.sqnr_db,
        "bytes": float(figures.bytes),
        "bytes_float32": float(figures.bytes_float32),
    }
    if figures.accuracy is not None and figures.accuracy_float32 is not None:
        evidence["accuracy"] = figures.accuracy
        evidence["accuracy_float32"] = figures.accuracy_float32
    return bundle.Artifact(INT8, int8.data, runner.run(calibration), INT8_TOLERANCE, evidence)


def _float_artifact(
    data: bytes, batch: int, calibration: Samples, report: EvaluationReport
) -> bundle.Artifact:
    evidence = {"bytes": float(len(data))}
    if report.figures.accuracy_float32 is not None:
        evidence["accuracy"] = report.figures.accuracy_float32
    answers = Runner(data, batch).run(calibration)
    return bundle.Artifact(FLOAT, data, answers, FLOAT_TOLERANCE, evidence)


def _require_parity(before: Runner, after: Runner, calibration: Samples) -> None:
    few = calibration.take(slice(0, _PARITY_SAMPLES))
    answers: Arrays = before.run(few)
    output_specs(answers, before.batch)  # refuses what no manifest can describe, e.g. strings
    require_same(answers, after.run(few))


def _weigh(force: bool, objection: Objection | None) -> list[Objection]:
    """Raise what nobody overruled; hand back what is to be recorded."""
    if objection is None:
        return []
    if not force:
        raise objection
    return [objection]


def _source_record(source: SourceModel) -> Source:
    return Source(
        name=source.name[:120], format="onnx", length=len(source.data), digest=source.digest
    )


def _data_summary(data: Data) -> DataSummary:
    seen = ranges.input_ranges(data.evaluation)
    return DataSummary(
        calibration_samples=len(data.calibration),
        evaluation_samples=len(data.evaluation),
        labelled=data.evaluation.labels is not None,
        held_out=data.held_out,
        inputs={
            name: InputRange(
                low=found.low,
                high=found.high,
                evaluation_low=seen[name].low,
                evaluation_high=seen[name].high,
            )
            for name, found in ranges.input_ranges(data.calibration).items()
        },
    )


def _produced_by() -> str:
    names = ("onnxruntime", "onnx")
    return ", ".join(f"{name} {metadata.version(name)}" for name in names)


def _say_nothing(step: str, share: float) -> None:
    """For callers that do not listen."""
