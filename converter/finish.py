"""The end of every way through the pipeline: latencies entered, variants verified, the file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import metadata

import msgspec

from contract.manifest import Manifest, TensorSpec, Variant
from converter import bundle
from converter.datasets import Data
from converter.latency import Latency
from converter.measurement import Measurement
from converter.report import EvaluationReport, VariantLatency
from converter.report_files import report_files
from converter.request import ConvertRequest
from converter.verify import verify


@dataclass(frozen=True)
class Timings:
    """Latencies of the variants that ship, by name, and every measurement that was used."""

    variants: Mapping[str, Latency]
    measurements: Sequence[Measurement]


@dataclass(frozen=True)
class Finished:
    """What the bundle holds. `digest`: the manifest's."""

    manifest: Manifest
    digest: str
    report: EvaluationReport


def finish(
    request: ConvertRequest,
    inputs: Sequence[TensorSpec],
    data: Data,
    report: EvaluationReport,
    artifacts: Sequence[bundle.Artifact],
    timings: Timings,
) -> Finished:
    """Write the release.

    Every variant has passed through the device's own code by then. Raises `VerificationFailed`,
    `EvidenceFailed`, `NotARelease`, `OutputUnwritable`.
    """
    report = _timed(report, timings)
    reports = report_files(report)
    files = dict(reports)
    variants: list[Variant] = []
    for artifact in artifacts:
        variant, parts = bundle.build_variant(
            _with_latency(artifact, timings.variants.get(artifact.name)),
            data.calibration,
            inputs,
            request.labels,
        )
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
    return Finished(manifest, bundle.write(request.output, manifest, files), report)


def _timed(report: EvaluationReport, timings: Timings) -> EvaluationReport:
    found = {
        name: VariantLatency(p50_ms=each.p50_ms, p50_ms_float32=each.p50_ms_float32)
        for name, each in timings.variants.items()
    }
    return msgspec.structs.replace(
        report,
        variants=[
            msgspec.structs.replace(variant, latency=found.get(variant.name))
            for variant in report.variants
        ],
        measurements=list(timings.measurements),
    )


def _with_latency(artifact: bundle.Artifact, latency: Latency | None) -> bundle.Artifact:
    if latency is None:
        return artifact
    figures = {"p50_ms": latency.p50_ms, "p50_ms_float32": latency.p50_ms_float32}
    return replace(artifact, evidence={**artifact.evidence, **figures})


def _produced_by(report: EvaluationReport) -> str:
    quantiser = report.quantiser
    names = ("onnxruntime", "onnx") if quantiser.onnx else ()
    made = [f"{name} {metadata.version(name)}" for name in names]
    return ", ".join([*made, *filter(None, [quantiser.tools])])
