"""The variants that stand beside `onnx-int8`: float16 for CUDA, int8 TFLite, plain float32.

Each is measured on the same evaluation samples, beside the same float model, and judged by the same
gate. Owns their place in the manifest, where the first variant that a device can run is taken:
float16 in front (only CUDA devices can run it, and theirs are slow in int8), the others behind.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import msgspec
import onnx

from contract.manifest import TensorSpec
from converter import gate
from converter.bundle import Artifact
from converter.datasets import Data
from converter.engine import Engine
from converter.errors import FloatBoundary, GateFailed, NothingToQuantise, QuantisationFailed
from converter.evaluate import Comparison, compare
from converter.evidence.golden import FLOAT_TOLERANCE
from converter.half import make_half
from converter.outputs import find_classes, output_specs
from converter.report import Candidate, EvaluationReport, VariantReport
from converter.reporting import confusion
from converter.request import ConvertRequest
from converter.sessions import Runner
from converter.tflite import release
from converter.tflite.naming import named_like
from converter.tflite.source import TfliteModel

HALF, FLOAT = "onnx-fp16", "onnx-fp32"


@dataclass(frozen=True)
class Extra:
    """One more variant, loaded in `engine`.

    `report` and `comparison` are None for float32, the measure of the rest.
    """

    artifact: Artifact
    engine: Engine
    report: VariantReport | None = None
    comparison: Comparison | None = None
    candidates: tuple[Candidate, ...] = ()
    tools: str = ""
    notes: tuple[str, ...] = ()
    """What a person is to know of how it was made."""

    def why_failed(self, max_drop: float, calibration: str) -> GateFailed | None:
        """The gate's objection to this variant, which it names."""
        if self.comparison is None:
            return None
        record = gate.decide(self.comparison, max_drop)
        found = gate.why_failed(record, calibration, self.comparison)
        return None if found is None else GateFailed(f"{self.artifact.name}: {found}", found.record)


def with_extras(
    report: EvaluationReport,
    before: Sequence[Extra],
    behind: Sequence[Extra],
    notes: Sequence[str] = (),
) -> EvaluationReport:
    """The report with the extras' parts, variants in the manifest's order.

    `notes`: what was odd about reading the model, beside what was odd about quantising it.
    """
    front = [extra.report for extra in before if extra.report is not None]
    back = [extra.report for extra in behind if extra.report is not None]
    extras = (*before, *behind)
    tried = [candidate for extra in extras for candidate in extra.candidates]
    made = [note for extra in extras for note in extra.notes]
    tools = ", ".join(dict.fromkeys(extra.tools for extra in extras if extra.tools))
    return msgspec.structs.replace(
        report,
        variants=[*front, *report.variants, *back],
        candidates=[*report.candidates, *tried],
        quantiser=msgspec.structs.replace(
            report.quantiser, tools=tools, notes=[*report.quantiser.notes, *notes, *made]
        ),
    )


def half_extra(
    request: ConvertRequest, model: onnx.ModelProto, reference: Runner, data: Data
) -> Extra:
    """`onnx-fp16` of the canonical float `model`; raises `BeyondHalf`."""
    made = make_half(model, data.calibration, reference.batch)
    runner = Runner(made, reference.batch)
    expected, answers = reference.run(data.evaluation), runner.run(data.evaluation)
    classes = find_classes(output_specs(expected, reference.batch), request.labels)
    found = compare(expected, answers, data.evaluation.labels, classes)
    evidence = {
        "agreement": found.agreement,
        "sqnr_db": found.sqnr_db,
        "bytes": float(len(made)),
    }
    if found.accuracy is not None:
        evidence["accuracy"] = found.accuracy
    calibrated = runner.run(data.calibration)
    artifact = Artifact(HALF, made, calibrated, FLOAT_TOLERANCE, evidence, accelerators=("cuda",))
    report = VariantReport(
        name=HALF,
        runtime="onnxruntime",
        bytes=len(made),
        agreement=found.agreement,
        sqnr_db=found.sqnr_db,
        accuracy=found.accuracy,
        confusion=confusion(answers, data.evaluation.labels, classes),
    )
    return Extra(artifact, runner, report, found)


def tflite_extra(
    request: ConvertRequest,
    model: TfliteModel,
    reference: Runner,
    inputs: tuple[TensorSpec, ...],
    data: Data,
    told: Callable[[float], None],
) -> Extra:
    """`tflite-int8` under the names of the ONNX variant; raises `VariantsDisagree` and others."""
    few = reference.run(data.calibration.take(slice(0, 1)))
    named = named_like(model, inputs, output_specs(few, reference.batch))
    variant = release.make_variant(request, named, reference, data, told)
    return Extra(
        release.artifact(variant, data, len(model.data)),
        variant.runner,
        release.variant_report(variant, data),
        variant.measured.comparison,
        tuple(release.candidates(variant)),
        release.tools(),
        variant.made.notes,
    )


def implied_tflite(
    request: ConvertRequest,
    model: TfliteModel,
    reference: Runner,
    inputs: tuple[TensorSpec, ...],
    data: Data,
) -> tuple[list[Extra], list[str]]:
    """`tflite-int8`; or nothing, and why, where it cannot be made and nobody asked for it by name.

    TensorFlow's models have a TFLite form of their own, and `onnx-int8` serves without it. Where
    `--with-tflite` or `--onnx2tf-python` asked, the failure is raised.
    """
    try:
        return [tflite_extra(request, model, reference, inputs, data, lambda share: None)], []
    except (FloatBoundary, NothingToQuantise, QuantisationFailed) as error:
        if request.with_tflite or request.onnx2tf_python is not None:
            raise
        return [], [f"{release.NAME} is left out, and onnx-int8 ships without it: {error}"]


def float_extra(data: bytes, batch: int, samples: Data, accuracy: float | None) -> Extra:
    """`onnx-fp32`, the reference itself."""
    evidence = {"bytes": float(len(data))}
    if accuracy is not None:
        evidence["accuracy"] = accuracy
    runner = Runner(data, batch)
    answers = runner.run(samples.calibration)
    return Extra(Artifact(FLOAT, data, answers, FLOAT_TOLERANCE, evidence), runner)
