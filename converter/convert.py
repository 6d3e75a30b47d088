"""Trained float model -> measured int8 bundle: the whole pipeline, read from top to bottom.

Owns the order of the steps and nothing else. Files of work live in a temporary directory; the
bundle appears by one rename at the end, so an error or Ctrl-C at any point leaves nothing behind.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

import onnx

from contract.manifest import Manifest
from converter import gate, ranges, unquantised
from converter.canonical import canonicalise, fix_batch, require_same
from converter.compact import compact
from converter.datasets import Data, read_data
from converter.errors import NoOnnxForm, Objection
from converter.extras import Extra, float_extra, half_extra, implied_tflite, with_extras
from converter.finish import Finished, Timings, finish
from converter.frontends.loading import Opened, open_model
from converter.frontends.onnx2tf import to_tflite
from converter.given_measurements import read_given
from converter.int8 import Int8Workshop
from converter.latency import Latency
from converter.onnx_int8 import Progress, int8_artifact, part, quantise_to_the_gate
from converter.outputs import output_specs
from converter.prerequisites import require_tools, source_options, wants_onnx2tf
from converter.report import EvaluationReport
from converter.reporting import INT8, make_report
from converter.request import ConvertRequest, check_request
from converter.samples import Arrays, Samples
from converter.sessions import Runner
from converter.source import SourceModel
from converter.stopwatch import Stopwatch, Timed
from converter.tflite import release
from converter.tflite.runner import TfliteRunner

_PARITY_SAMPLES = 64


@dataclass(frozen=True)
class Converted:
    """A bundle that stands under `path`. `latency`: of its int8, or of what ships instead.

    `notes`: what a person is to know: what could not be made, and where the latencies come from.
    """

    path: Path
    manifest: Manifest
    manifest_digest: str
    report: EvaluationReport
    latency: Latency
    notes: tuple[str, ...] = ()


def convert(request: ConvertRequest, progress: Progress | None = None) -> Converted:
    """Convert, measure, judge, and write the bundle; raises a `ConvertError` and writes nothing.

    An `Objection` (gate, calibration) is raised unless `request.force`; then it is recorded.
    """
    tell = progress or _say_nothing
    tell("read", 0.0)
    check_request(request)
    stopwatch = _stopwatch(request)
    opened = open_model(request.model, request.calib, source_options(request))
    if opened.onnx is None:
        return _convert_tflite(request, opened, stopwatch, tell)
    require_tools(request, opened.sources)
    source = fix_batch(opened.onnx) if request.fixed_batch else opened.onnx
    request = replace(request, labels=request.labels or opened.sources.labels)
    data = read_data(request, source.inputs, opened.sources.columns)
    request = _with_classes(request, data)
    objections = _weigh(request.force, ranges.find_few(data.calibration, data.evaluation))
    objections += _weigh(request.force, ranges.find_outlier(data.calibration))
    objections += _weigh(request.force, ranges.find_mismatch(data.calibration, data.evaluation))
    if opened.sources.trees is not None:
        shrunk = unquantised.tree_release(request, opened, data, stopwatch)
        return _ship_float(request, opened, data, shrunk, objections, stopwatch, tell)
    with tempfile.TemporaryDirectory(prefix="outrider-convert-") as directory:
        work = Path(directory)
        tell("simplify", 0.1)
        float_model = canonicalise(source, work)
        float_data, float_runner = compact(float_model), Runner(source.data, source.batch)
        _require_parity(float_runner, Runner(float_data, source.batch), data.calibration)
        tell("quantise", 0.2)
        workshop = Int8Workshop(
            float_model,
            data.calibration,
            source.batch,
            work,
            part(tell, "quantise", 0.2, 0.4),
            integer_io=request.integer_io,
            searching=request.search,
        )
        found = quantise_to_the_gate(request, workshop, float_runner, source.inputs, data, tell)
    tell("time", 0.75)
    int8, int8_runner, measured = found.model, found.runner, found.measured
    float32 = Timed(float_runner, source.data)
    latency = stopwatch.time(INT8, Timed(int8_runner, int8.data), float32, data.evaluation)
    if opened.sources.small and latency.p50_ms > latency.p50_ms_float32:
        labels = data.evaluation.labels
        kept = unquantised.small_release(float_data, measured, labels, latency)
        return _ship_float(request, opened, data, kept, objections, stopwatch, tell)
    objections += _weigh(request.force, gate.why_useless(measured.comparison))
    objections += _weigh(
        request.force, gate.why_one_answer(measured.comparison, data.evaluation.origin)
    )
    record = gate.decide(measured.comparison, request.max_drop)
    objections += _weigh(
        request.force,
        gate.why_failed(record, ranges.suspected(data.calibration), measured.comparison),
    )
    objections += _weigh(request.force, gate.why_slow(latency, request.max_latency_ratio))
    tell("other variants", 0.78)
    before, behind, missing = _others(request, opened, float_model, float_runner, source, data)
    for extra in (*before, *behind):
        objections += _weigh(
            request.force, extra.why_failed(request.max_drop, ranges.suspected(data.calibration))
        )
    record = gate.overrule(record, objections)
    tell("evidence", 0.85)
    report = make_report(request, source, data, measured, record, int8)
    artifact = int8_artifact(int8, int8_runner, data.calibration, report.figures)
    if request.with_float:
        accuracy = measured.comparison.accuracy_float32
        behind.append(float_extra(float_data, source.batch, data, accuracy))
    report = with_extras(report, before, behind, (*opened.sources.notes, *missing))
    artifacts = [*(e.artifact for e in before), artifact, *(e.artifact for e in behind)]
    latencies = {INT8: latency}
    for extra in (*before, *behind):
        timed, name = _timed(extra), extra.artifact.name
        latencies[name] = stopwatch.time(name, timed, float32, data.evaluation)
    tell("write", 0.9)
    timings = Timings(latencies, stopwatch.taken)
    made = finish(request, source.inputs, data, report, artifacts, timings)
    tell("done", 1.0)
    said = (*missing, *(note for extra in behind for note in extra.notes))
    return _converted(request, made, latency, stopwatch, said)


def _ship_float(
    request: ConvertRequest,
    opened: Opened,
    data: Data,
    made: unquantised.FloatRelease,
    objections: list[Objection],
    stopwatch: Stopwatch,
    tell: Progress,
) -> Converted:
    """The end of the pipeline for a model that int8 does not suit; judged like every other."""
    source, comparison = _onnx_of(opened), made.measured.comparison
    objections += _weigh(request.force, gate.why_useless(comparison))
    objections += _weigh(request.force, gate.why_one_answer(comparison, data.evaluation.origin))
    record = gate.decide(comparison, request.max_drop)
    objections += _weigh(
        request.force, gate.why_failed(record, ranges.suspected(data.calibration), comparison)
    )
    record = unquantised.with_reason(gate.overrule(record, objections), made)
    tell("evidence", 0.85)
    report = unquantised.report_float(request, source, data, made, record, opened.sources.notes)
    artifact = unquantised.artifact_float(made, source, data, report)
    tell("write", 0.9)
    timings = Timings({artifact.name: made.latency}, stopwatch.taken)
    finished = finish(request, source.inputs, data, report, [artifact], timings)
    tell("done", 1.0)
    return _converted(request, finished, made.latency, stopwatch)


def _convert_tflite(
    request: ConvertRequest, opened: Opened, stopwatch: Stopwatch, tell: Progress
) -> Converted:
    """The whole way of a model that came as .tflite: the same steps, through LiteRT."""
    model = opened.sources.tflite
    if model is None or request.with_cuda or request.with_float or request.fixed_batch:
        raise NoOnnxForm(
            f"{opened.origin.name}: a TFLite model has no ONNX form; give the model that it was"
            " made from, or leave --with-cuda, --with-float and --fixed-batch out"
        )
    data = read_data(request, model.inputs)
    request = _with_classes(request, data)
    objections = _weigh(request.force, ranges.find_few(data.calibration, data.evaluation))
    objections += _weigh(request.force, ranges.find_outlier(data.calibration))
    objections += _weigh(request.force, ranges.find_mismatch(data.calibration, data.evaluation))
    float_runner = TfliteRunner(model.data, model.batch)
    variant = release.make_variant(
        request, model, float_runner, data, part(tell, "quantise", 0.1, 0.7)
    )
    tell("time", 0.75)
    latency = stopwatch.time(
        release.NAME,
        Timed(variant.runner, variant.made.data, "litert"),
        Timed(float_runner, model.data, "litert"),
        data.evaluation,
    )
    comparison = variant.measured.comparison
    objections += _weigh(request.force, gate.why_useless(comparison))
    objections += _weigh(request.force, gate.why_one_answer(comparison, data.evaluation.origin))
    record = gate.decide(comparison, request.max_drop)
    objections += _weigh(
        request.force, gate.why_failed(record, ranges.suspected(data.calibration), comparison)
    )
    objections += _weigh(request.force, gate.why_slow(latency, request.max_latency_ratio))
    record = gate.overrule(record, objections)
    tell("evidence", 0.85)
    report = release.whole_report(
        request, opened.origin, data, variant, record, opened.sources.notes
    )
    artifact = release.artifact(variant, data, opened.origin.length)
    tell("write", 0.9)
    timings = Timings({release.NAME: latency}, stopwatch.taken)
    made = finish(request, model.inputs, data, report, [artifact], timings)
    tell("done", 1.0)
    return _converted(request, made, latency, stopwatch, variant.made.notes)


def _others(
    request: ConvertRequest,
    opened: Opened,
    model: onnx.ModelProto,
    reference: Runner,
    source: SourceModel,
    data: Data,
) -> tuple[list[Extra], list[Extra], list[str]]:
    """The variants in front of `onnx-int8`, those behind it, and why one is missing."""
    before = [half_extra(request, model, reference, data)] if request.with_cuda else []
    tflite = opened.sources.tflite
    if wants_onnx2tf(request, opened.sources):
        tflite = to_tflite(source, compact(model), data.calibration, source_options(request))
    if tflite is None:
        return before, [], []
    return before, *implied_tflite(request, tflite, reference, source.inputs, data)


def _stopwatch(request: ConvertRequest) -> Stopwatch:
    given = None if request.measurements is None else read_given(request.measurements)
    return Stopwatch(request.measurement_cache, anew=request.remeasure, given=given)


def _timed(extra: Extra) -> Timed:
    return Timed(extra.engine, extra.artifact.data, extra.artifact.runtime)


def _converted(
    request: ConvertRequest,
    made: Finished,
    latency: Latency,
    stopwatch: Stopwatch,
    said: tuple[str, ...] = (),
) -> Converted:
    notes = (*said, *stopwatch.notes)
    return Converted(request.output, made.manifest, made.digest, made.report, latency, notes)


def _with_classes(request: ConvertRequest, data: Data) -> ConvertRequest:
    """Names of the classes: those that were given or are the model's own, else the folders'."""
    return replace(request, labels=request.labels or data.classes)


def _onnx_of(opened: Opened) -> SourceModel:
    if opened.onnx is None:
        raise NoOnnxForm(
            f"{opened.origin.name}: a TFLite model has no ONNX form; give the model that it was"
            " made from"
        )
    return opened.onnx


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


def _say_nothing(step: str, share: float) -> None:
    """For callers that do not listen."""
