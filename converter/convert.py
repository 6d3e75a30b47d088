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

from contract.manifest import Manifest, Variant
from converter import bundle, gate, ranges, unquantised
from converter.canonical import canonicalise, fix_batch, require_same
from converter.compact import compact
from converter.datasets import Data, read_data
from converter.errors import NoOnnxForm, Objection
from converter.evaluate import check_labels, compare
from converter.evidence.golden import FLOAT_TOLERANCE, INT8_TOLERANCE
from converter.frontends.loading import Opened, open_model
from converter.frontends.sources import SourceOptions
from converter.int8 import Int8Model, Int8Workshop
from converter.latency import Latency, measure_latency
from converter.outputs import find_classes, output_specs
from converter.report import EvaluationReport, ModelFigures
from converter.report_files import report_files
from converter.reporting import INT8, Measured, make_report
from converter.request import ConvertRequest, check_request
from converter.samples import Arrays, Samples
from converter.sessions import Runner
from converter.source import SourceModel

Progress = Callable[[str, float], None]
"""Called with the step's name and the share of the whole that is done, 0..1."""
FLOAT = "onnx-fp32"
_PARITY_SAMPLES = 64


@dataclass(frozen=True)
class Converted:
    """A bundle that stands under `path`. `latency` is of this run and not in the bundle."""

    path: Path
    manifest: Manifest
    manifest_digest: str
    report: EvaluationReport
    latency: Latency


def convert(request: ConvertRequest, progress: Progress | None = None) -> Converted:
    """Convert, measure, judge, and write the bundle; raises a `ConvertError` and writes nothing.

    An `Objection` (gate, calibration) is raised unless `request.force`; then it is recorded.
    """
    tell = progress or _say_nothing
    tell("read", 0.0)
    check_request(request)
    opened = open_model(request.model, request.calib, _source_options(request))
    source = _onnx_of(opened)
    if request.fixed_batch:
        source = fix_batch(source)
    data = read_data(request, source)
    objections = _weigh(request.force, ranges.find_outlier(data.calibration))
    objections += _weigh(request.force, ranges.find_mismatch(data.calibration, data.evaluation))
    if opened.sources.trees is not None:
        shrunk = unquantised.tree_release(request, opened, data)
        return _ship_float(request, opened, data, shrunk, objections, tell)
    with tempfile.TemporaryDirectory(prefix="outrider-convert-") as directory:
        work = Path(directory)
        tell("simplify", 0.1)
        float_model = canonicalise(source, work)
        float_data, float_runner = compact(float_model), Runner(source.data, source.batch)
        _require_parity(float_runner, Runner(float_data, source.batch), data.calibration)
        tell("quantise", 0.2)
        workshop = Int8Workshop(
            float_model, data.calibration, source.batch, work, _part(tell, "quantise", 0.2, 0.4)
        )
        int8, measured = _quantise_to_the_gate(request, workshop, float_runner, data, tell)
    tell("time", 0.75)
    int8_runner = Runner(int8.data, source.batch)
    latency = measure_latency(int8_runner, float_runner, data.evaluation)
    if opened.sources.small and latency.p50_ms > latency.p50_ms_float32:
        labels = data.evaluation.labels
        kept = unquantised.small_release(float_data, measured, labels, latency)
        return _ship_float(request, opened, data, kept, objections, tell)
    objections += _weigh(request.force, gate.why_useless(measured.comparison))
    record = gate.decide(measured.comparison, request.max_drop)
    objections += _weigh(request.force, gate.why_failed(record))
    objections += _weigh(request.force, gate.why_slow(latency, request.max_latency_ratio))
    record = gate.overrule(record, objections)
    tell("evidence", 0.85)
    report = make_report(request, source, data, measured, record, int8)
    artifacts = [_int8_artifact(int8, int8_runner, data.calibration, report.figures)]
    if request.with_float:
        artifacts.append(_float_artifact(float_data, source.batch, data.calibration, report))
    manifest, digest = _write(request, source, data, report, artifacts, tell)
    tell("done", 1.0)
    return Converted(request.output, manifest, digest, report, latency)


def _ship_float(
    request: ConvertRequest,
    opened: Opened,
    data: Data,
    made: unquantised.FloatRelease,
    objections: list[Objection],
    tell: Progress,
) -> Converted:
    """The end of the pipeline for a model that int8 does not suit; judged like every other."""
    source, comparison = _onnx_of(opened), made.measured.comparison
    objections += _weigh(request.force, gate.why_useless(comparison))
    record = gate.decide(comparison, request.max_drop)
    objections += _weigh(request.force, gate.why_failed(record))
    record = unquantised.with_reason(gate.overrule(record, objections), made)
    tell("evidence", 0.85)
    report = unquantised.report_float(request, source, data, made, record, opened.sources.notes)
    artifact = unquantised.artifact_float(made, source, data, report)
    manifest, digest = _write(request, source, data, report, [artifact], tell)
    tell("done", 1.0)
    return Converted(request.output, manifest, digest, report, made.latency)


def _source_options(request: ConvertRequest) -> SourceOptions:
    return SourceOptions(
        trust_pickle=request.trust_pickle,
        onnx2tf_python=request.onnx2tf_python,
        timeout_s=request.source_timeout_s,
    )


def _onnx_of(opened: Opened) -> SourceModel:
    if opened.onnx is None:
        raise NoOnnxForm(
            f"{opened.origin.name}: a TFLite model has no ONNX form; give the model that it was"
            " made from"
        )
    return opened.onnx


def evaluate(request: ConvertRequest, float32: Runner, int8: Runner, data: Data) -> Measured:
    """Both models on the evaluation samples; raises `BadLabels` when labels do not fit classes."""
    reference, answers = float32.run(data.evaluation), int8.run(data.evaluation)
    classes = find_classes(output_specs(reference, float32.batch), request.labels)
    if classes is not None and data.calibration.labels is not None:
        check_labels(data.calibration.labels, classes.shape[-1])
    comparison = compare(reference, answers, data.evaluation.labels, classes)
    return Measured(comparison, reference, answers, classes)


def _quantise_to_the_gate(
    request: ConvertRequest, workshop: Int8Workshop, float32: Runner, data: Data, tell: Progress
) -> tuple[Int8Model, Measured]:
    """The int8 model, in mixed precision where the gate lets only that pass."""
    made = workshop.make(_part(tell, "quantise", 0.4, 0.6), searching=request.search)
    tell("evaluate", 0.6)
    measured = evaluate(request, float32, Runner(made.data, float32.batch), data)
    if not request.search or gate.decide(measured.comparison, request.max_drop).passed:
        return made, measured
    soft = workshop.soften(made, request.max_drop, _part(tell, "mixed precision", 0.6, 0.75))
    if soft is None:
        return made, measured
    again = evaluate(request, float32, Runner(soft.data, float32.batch), data)
    # Slower for nothing, when the gate refuses that one, too.
    passed = gate.decide(again.comparison, request.max_drop).passed
    return (soft, again) if passed else (made, measured)


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


def _produced_by() -> str:
    names = ("onnxruntime", "onnx")
    return ", ".join(f"{name} {metadata.version(name)}" for name in names)


def _part(tell: Progress, step: str, low: float, high: float) -> Callable[[float], None]:
    """Shares 0..1 of one step, told as shares of the whole."""
    return lambda share: tell(step, low + (high - low) * share)


def _say_nothing(step: str, share: float) -> None:
    """For callers that do not listen."""
