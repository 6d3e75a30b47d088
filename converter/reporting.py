"""Puts the evaluation report together out of what the pipeline measured. Measures nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib import metadata

import numpy as np
from numpy.typing import NDArray

from contract.manifest import GateRecord, Source, TensorSpec
from converter import ranges
from converter.confusion import confusion_of
from converter.datasets import Data
from converter.evaluate import Comparison, top_class
from converter.int8 import Int8Model
from converter.quantisation.search import Candidate as Tried
from converter.report import (
    Candidate,
    Confusion,
    Coverage,
    DataSummary,
    EvaluationReport,
    FusionAudit,
    InputRange,
    LayerError,
    ModelFigures,
    Quantiser,
    VariantReport,
)
from converter.request import ConvertRequest
from converter.samples import Arrays, Samples
from converter.source import SourceModel

INT8 = "onnx-int8"


@dataclass(frozen=True)
class Measured:
    """Both models' answers on the evaluation samples, and what the comparison of them says."""

    comparison: Comparison
    reference: Arrays
    answers: Arrays
    classes: TensorSpec | None


def make_report(
    request: ConvertRequest,
    source: SourceModel,
    data: Data,
    measured: Measured,
    record: GateRecord,
    int8: Int8Model,
) -> EvaluationReport:
    """The bundle's `report.json`."""
    comparison, labels = measured.comparison, data.evaluation.labels
    return EvaluationReport(
        family=request.family,
        version=request.version,
        source=source_record(source),
        data=data_summary(data),
        figures=ModelFigures(
            agreement=comparison.agreement,
            sqnr_db=comparison.sqnr_db,
            bytes=len(int8.data),
            bytes_float32=len(source.data),
            accuracy=comparison.accuracy,
            accuracy_float32=comparison.accuracy_float32,
        ),
        gate=record,
        quantiser=_quantiser(int8),
        labels=list(request.labels),
        variants=[_variant(int8, measured, labels)],
        candidates=candidates(int8),
        coverage=coverage(data),
        confusion_float32=confusion(measured.reference, labels, measured.classes),
    )


def source_record(source: SourceModel) -> Source:
    """The manifest's and the report's word for the trained model."""
    return source.origin or Source(
        name=source.name[:120], format="onnx", length=len(source.data), digest=source.digest
    )


def data_summary(data: Data) -> DataSummary:
    """The samples that the figures rest on."""
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


def candidates(int8: Int8Model) -> list[Candidate]:
    """What the search tried, in its order; none without a search."""

    def told(tried: Tried) -> Candidate:
        return Candidate(
            name=str(tried.recipe),
            sqnr_db=tried.score.sqnr_db,
            agreement=tried.score.agreement,
            chosen=tried.recipe == int8.recipe,
        )

    return [told(tried) for tried in int8.candidates]


def coverage(data: Data) -> list[Coverage]:
    """Per float input: the calibrated range, and how much of the evaluation is outside."""
    seen = ranges.input_ranges(data.evaluation)
    return [
        Coverage(
            tensor=name,
            low=found.low,
            high=found.high,
            seen_low=seen[name].low,
            seen_high=seen[name].high,
            outside=_outside(data.evaluation, name, found),
        )
        for name, found in ranges.input_ranges(data.calibration).items()
    ]


def confusion(
    answers: Arrays, labels: NDArray[np.int64] | None, classes: TensorSpec | None
) -> Confusion | None:
    """The confusion matrix of a classifier on labelled samples, else None."""
    if labels is None or classes is None:
        return None
    answered = top_class(answers, classes)
    return confusion_of(labels.tolist(), answered.tolist(), classes.shape[-1])


def _variant(
    int8: Int8Model, measured: Measured, labels: NDArray[np.int64] | None
) -> VariantReport:
    comparison = measured.comparison
    return VariantReport(
        name=INT8,
        runtime="onnxruntime",
        bytes=len(int8.data),
        agreement=comparison.agreement,
        sqnr_db=comparison.sqnr_db,
        accuracy=comparison.accuracy,
        layers=[
            LayerError(name=e.name, op=e.operator, sqnr_db=e.sqnr_db, integer=e.integer)
            for e in int8.layers
        ],
        fusion=FusionAudit(
            integer=int8.audit.integer,
            floating=int8.audit.floating,
            left_float=list(int8.audit.left_float),
        ),
        confusion=confusion(measured.answers, labels, measured.classes),
    )


def _quantiser(int8: Int8Model) -> Quantiser:
    return Quantiser(
        onnxruntime=metadata.version("onnxruntime"),
        onnx=metadata.version("onnx"),
        activations=int8.activations,
        ranges=str(int8.recipe),
        integer_layers=int8.audit.integer,
        float_layers=int8.audit.floating,
        notes=[*int8.notes, *_softened(int8.kept_float)],
    )


def _softened(kept: Sequence[str]) -> list[str]:
    return [f"mixed precision: kept in float: {', '.join(kept)}"] if kept else []


def _outside(evaluation: Samples, name: str, found: ranges.Range) -> float:
    return round(100 * ranges.share_outside(evaluation, name, found.low, found.high), 4)
