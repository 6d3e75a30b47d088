"""The `tflite-int8` variant: made, measured beside the float model, reported, packed.

Beside an ONNX variant the reference is the release's own float model, so that the figures of both
compare; alone it is the float .tflite.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata

from contract.manifest import GateRecord, Source
from converter import bundle
from converter.datasets import Data
from converter.engine import Engine
from converter.evaluate import check_labels, compare
from converter.evidence.golden import INT8_TOLERANCE
from converter.outputs import find_classes, output_specs
from converter.report import (
    Candidate,
    EvaluationReport,
    FusionAudit,
    LayerError,
    ModelFigures,
    Quantiser,
    VariantReport,
)
from converter.reporting import Measured, confusion, coverage, data_summary
from converter.request import ConvertRequest
from converter.tflite.int8 import TfliteInt8, make_tflite_int8
from converter.tflite.layers import layer_errors
from converter.tflite.runner import TfliteRunner, real
from converter.tflite.source import TfliteModel

NAME = "tflite-int8"


@dataclass(frozen=True)
class TfliteVariant:
    """The int8 model, loaded, and what was measured of it."""

    made: TfliteInt8
    runner: TfliteRunner
    measured: Measured
    layers: tuple[LayerError, ...] = ()


def make_variant(
    request: ConvertRequest,
    model: TfliteModel,
    reference: Engine,
    data: Data,
    told: Callable[[float], None],
) -> TfliteVariant:
    """Quantise `model` and measure it beside `reference` on the evaluation samples."""
    made = make_tflite_int8(
        model,
        data.calibration,
        told,
        integer_io=request.integer_io,
        searching=request.search,
    )
    runner = TfliteRunner(made.data, model.batch)
    expected = reference.run(data.evaluation)
    answers = real(runner, runner.run(data.evaluation))
    classes = find_classes(output_specs(expected, model.batch), request.labels)
    if classes is not None and data.calibration.labels is not None:
        check_labels(data.calibration.labels, classes.shape[-1])
    comparison = compare(expected, answers, data.evaluation.labels, classes)
    layers = tuple(layer_errors(model, made.data, data.evaluation))
    return TfliteVariant(made, runner, Measured(comparison, expected, answers, classes), layers)


def artifact(variant: TfliteVariant, data: Data, bytes_float32: int) -> bundle.Artifact:
    """What ships, with its own answers through LiteRT's default kernels, as on a device."""
    comparison = variant.measured.comparison
    evidence = {
        "agreement": comparison.agreement,
        "sqnr_db": comparison.sqnr_db,
        "bytes": float(len(variant.made.data)),
        "bytes_float32": float(bytes_float32),
        "kernels_agreement": kernels_agreement(variant, data),
    }
    if comparison.accuracy is not None and comparison.accuracy_float32 is not None:
        evidence["accuracy"] = comparison.accuracy
        evidence["accuracy_float32"] = comparison.accuracy_float32
    return bundle.Artifact(
        NAME,
        variant.made.data,
        variant.runner.run(data.calibration),
        INT8_TOLERANCE,
        evidence,
        runtime="litert",
        inputs=tuple(variant.runner.inputs),
        outputs=tuple(variant.runner.output_specs),
    )


def kernels_agreement(variant: TfliteVariant, data: Data) -> float:
    """Percent of the evaluation on which XNNPACK's kernels and the built-in ones agree: the latter
    are all that tflite-runtime has on some boards."""
    plain = TfliteRunner(variant.made.data, variant.runner.batch, reference=True)
    answers = real(plain, plain.run(data.evaluation))
    measured = variant.measured
    return compare(measured.answers, answers, None, measured.classes).agreement


def variant_report(variant: TfliteVariant, data: Data) -> VariantReport:
    """This variant's part of the report."""
    measured, found = variant.measured, variant.made.audit
    comparison = measured.comparison
    return VariantReport(
        name=NAME,
        runtime="litert",
        bytes=len(variant.made.data),
        agreement=comparison.agreement,
        sqnr_db=comparison.sqnr_db,
        accuracy=comparison.accuracy,
        layers=list(variant.layers),
        fusion=FusionAudit(
            integer=found.integer, floating=found.floating, left_float=list(found.left_float)
        ),
        confusion=confusion(measured.answers, data.evaluation.labels, measured.classes),
    )


def candidates(variant: TfliteVariant) -> list[Candidate]:
    """What was tried, in order."""
    return [
        Candidate(
            name=f"{NAME}: {score.candidate}",
            sqnr_db=score.sqnr_db,
            agreement=score.agreement,
            chosen=score.candidate == variant.made.chosen,
        )
        for score in variant.made.scores
    ]


def whole_report(
    request: ConvertRequest,
    origin: Source,
    data: Data,
    variant: TfliteVariant,
    record: GateRecord,
    notes: tuple[str, ...],
) -> EvaluationReport:
    """The report of a release that has no other variant."""
    comparison, found = variant.measured.comparison, variant.made.audit
    return EvaluationReport(
        family=request.family,
        version=request.version,
        source=origin,
        data=data_summary(data),
        figures=ModelFigures(
            agreement=comparison.agreement,
            sqnr_db=comparison.sqnr_db,
            bytes=len(variant.made.data),
            bytes_float32=origin.length,
            accuracy=comparison.accuracy,
            accuracy_float32=comparison.accuracy_float32,
        ),
        gate=record,
        quantiser=Quantiser(
            onnxruntime="",
            onnx="",
            tools=tools(),
            activations="int8",
            ranges=variant.made.chosen,
            integer_layers=found.integer,
            float_layers=found.floating,
            notes=[*notes, *variant.made.notes],
        ),
        labels=list(request.labels),
        variants=[variant_report(variant, data)],
        candidates=candidates(variant),
        coverage=coverage(data),
        confusion_float32=confusion(
            variant.measured.reference, data.evaluation.labels, variant.measured.classes
        ),
    )


def tools() -> str:
    """Which versions made it."""
    names = ("ai-edge-quantizer", "ai-edge-litert")
    return ", ".join(f"{name} {metadata.version(name)}" for name in names)
