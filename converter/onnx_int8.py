"""The `onnx-int8` variant: quantised until the gate lets it pass, measured, packed.

Owns the second try in mixed precision. Judges nothing for good: objections are the caller's.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from contract.manifest import TensorSpec
from converter import bundle, gate
from converter.datasets import Data
from converter.engine import Engine
from converter.evaluate import check_labels, compare
from converter.evidence.golden import INT8_TOLERANCE
from converter.int8 import Int8Model, Int8Workshop, load
from converter.integers import IntegerRunner
from converter.outputs import find_classes, output_specs
from converter.report import ModelFigures
from converter.reporting import INT8, Measured
from converter.request import ConvertRequest
from converter.samples import Samples
from converter.sessions import Runner

Progress = Callable[[str, float], None]
"""Called with the step's name and the share of the whole that is done, 0..1."""


@dataclass(frozen=True)
class Quantised:
    """The int8 model, loaded, and what it is worth on the evaluation samples."""

    model: Int8Model
    runner: Runner | IntegerRunner
    measured: Measured


def quantise_to_the_gate(
    request: ConvertRequest,
    workshop: Int8Workshop,
    float32: Runner,
    inputs: Sequence[TensorSpec],
    data: Data,
    tell: Progress,
) -> Quantised:
    """The int8 model, in mixed precision where the gate lets only that pass."""
    made = workshop.make(part(tell, "quantise", 0.4, 0.6))
    tell("evaluate", 0.6)
    plain = _evaluated(request, made, float32, inputs, data)
    if not request.search or gate.decide(plain.measured.comparison, request.max_drop).passed:
        return plain
    soft = workshop.soften(made, request.max_drop, part(tell, "mixed precision", 0.6, 0.75))
    if soft is None:
        return plain
    mixed = _evaluated(request, soft, float32, inputs, data)
    # Slower for nothing, when the gate refuses that one, too.
    return mixed if gate.decide(mixed.measured.comparison, request.max_drop).passed else plain


def _evaluated(
    request: ConvertRequest,
    made: Int8Model,
    float32: Runner,
    inputs: Sequence[TensorSpec],
    data: Data,
) -> Quantised:
    runner = load(made, inputs, float32.batch)
    return Quantised(made, runner, evaluate(request, float32, runner, data))


def evaluate(request: ConvertRequest, float32: Runner, int8: Engine, data: Data) -> Measured:
    """Both models on the evaluation samples; raises `BadLabels` when labels do not fit classes."""
    reference, answers = float32.run(data.evaluation), int8.run(data.evaluation)
    classes = find_classes(output_specs(reference, float32.batch), request.labels)
    if classes is not None and data.calibration.labels is not None:
        check_labels(data.calibration.labels, classes.shape[-1])
    comparison = compare(reference, answers, data.evaluation.labels, classes)
    return Measured(comparison, reference, answers, classes)


def int8_artifact(
    int8: Int8Model,
    runner: Runner | IntegerRunner,
    calibration: Samples,
    figures: ModelFigures,
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
    if isinstance(runner, Runner):
        return bundle.Artifact(INT8, int8.data, runner.run(calibration), INT8_TOLERANCE, evidence)
    answers = runner.raw(calibration)
    return bundle.Artifact(
        INT8,
        int8.data,
        answers,
        INT8_TOLERANCE,
        evidence,
        inputs=runner.inputs,
        outputs=runner.specs(answers),
    )


def part(tell: Progress, step: str, low: float, high: float) -> Callable[[float], None]:
    """Shares 0..1 of one step, told as shares of the whole."""
    return lambda share: tell(step, low + (high - low) * share)
