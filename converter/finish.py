"""The end of every way through the pipeline: variants verified, the manifest, the file."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import metadata

from contract.manifest import Manifest, TensorSpec, Variant
from converter import bundle
from converter.datasets import Data
from converter.report import EvaluationReport
from converter.report_files import report_files
from converter.request import ConvertRequest
from converter.verify import verify


def finish(
    request: ConvertRequest,
    inputs: Sequence[TensorSpec],
    data: Data,
    report: EvaluationReport,
    artifacts: Sequence[bundle.Artifact],
) -> tuple[Manifest, str]:
    """Write the release; returns its manifest and the manifest's digest.

    Every variant has passed through the device's own code by then. Raises `VerificationFailed`,
    `EvidenceFailed`, `NotARelease`, `OutputUnwritable`.
    """
    reports = report_files(report)
    files = dict(reports)
    variants: list[Variant] = []
    for artifact in artifacts:
        variant, parts = bundle.build_variant(artifact, data.calibration, inputs, request.labels)
        verify(variant, parts)
        variants.append(variant)
        files.update(parts)
    manifest = bundle.build_manifest(
        request,
        report.source,
        report.gate,
        variants,
        reports,
        _produced_by(report),
        request.processing,
    )
    return manifest, bundle.write(request.output, manifest, files)


def _produced_by(report: EvaluationReport) -> str:
    quantiser = report.quantiser
    names = ("onnxruntime", "onnx") if quantiser.onnx else ()
    made = [f"{name} {metadata.version(name)}" for name in names]
    return ", ".join([*made, *filter(None, [quantiser.tools])])
