"""From artifacts to a release: variants with their evidence, the manifest, the bundle file.

Writes through model.archive, whole or not at all.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import msgspec

from contract.errors import ContractError
from contract.ids import digest_of
from contract.manifest import (
    GateRecord,
    Manifest,
    Requirements,
    Source,
    TensorSpec,
    Variant,
    decode_manifest,
    encode_manifest,
)
from contract.processing import Processing
from converter.errors import EvidenceFailed, ModelUnreadable, NotARelease, OutputUnwritable
from converter.evidence.golden import golden_bytes
from converter.evidence.reference import profile_bytes
from converter.integers import taken
from converter.outputs import find_classes, output_specs
from converter.request import ConvertRequest
from converter.samples import Arrays, Samples
from model.archive import write_bundle
from model.chunks import file_ref
from model.errors import ModelError, TooLargeToChunk

MIN_ONNXRUNTIME = "1.16"
"""The oldest that loads opset 17 and IR 8."""
MIN_LITERT = "2.1"
"""Of ai-edge-litert, and far below tflite-runtime's only living version, 2.14."""


@dataclass(frozen=True)
class Artifact:
    """One model that ships. `answers`: its own outputs on all calibration samples.

    `inputs` and `outputs` where they differ from the release's or carry a quantisation.
    """

    name: str
    data: bytes
    answers: Arrays
    tolerance: float
    evidence: Mapping[str, float]
    runtime: Literal["onnxruntime", "litert"] = "onnxruntime"
    accelerators: tuple[str, ...] = ()
    inputs: tuple[TensorSpec, ...] = ()
    outputs: tuple[TensorSpec, ...] = ()


def build_variant(
    artifact: Artifact,
    calibration: Samples,
    inputs: Sequence[TensorSpec],
    labels: Sequence[str],
) -> tuple[Variant, dict[str, bytes]]:
    """The variant and its files by path. Raises `EvidenceFailed`, `ModelUnreadable`."""
    inputs = artifact.inputs or inputs
    outputs = list(artifact.outputs) or output_specs(artifact.answers, inputs[0].shape[0])
    try:
        files = _files(artifact, taken(calibration, inputs), inputs, outputs, labels)
    except ModelError as error:
        raise EvidenceFailed(f"{artifact.name}: {error}; calibrate on other samples") from error
    try:
        model, golden, profile = (file_ref(path, data) for path, data in files.items())
    except TooLargeToChunk as error:
        raise ModelUnreadable(f"{error}; the model is too large for a device") from error
    variant = Variant(
        name=artifact.name,
        runtime=artifact.runtime,
        requires=Requirements(
            min_runtime=MIN_LITERT if artifact.runtime == "litert" else MIN_ONNXRUNTIME,
            accelerators=list(artifact.accelerators),
        ),
        model=model,
        golden=golden,
        profile=profile,
        inputs=list(inputs),
        outputs=outputs,
        evidence=dict(sorted(artifact.evidence.items())),
    )
    return variant, files


def build_manifest(
    request: ConvertRequest,
    source: Source,
    gate: GateRecord,
    variants: Sequence[Variant],
    reports: Mapping[str, bytes],
    produced_by: str,
    processing: Processing | None = None,
) -> Manifest:
    """The release's manifest; variants in order of preference. `reports` stay at the hub."""
    return Manifest(
        family=request.family,
        version=request.version,
        source=source,
        gate=gate,
        variants=list(variants),
        labels=list(request.labels),
        device_classes=sorted(set(request.device_classes)),
        hub_files=[file_ref(path, data, chunked=False) for path, data in sorted(reports.items())],
        produced_by=produced_by,
        processing=msgspec.UNSET if processing is None else processing,
    )


def write(output: Path, manifest: Manifest, files: Mapping[str, bytes]) -> str:
    """Write the bundle; returns the manifest's digest.

    Raises `NotARelease` for what no device could read back, `OutputUnwritable` for the disk.
    """
    try:
        # Encoding checks no bounds, decoding does: names, ranks and counts come from the model.
        decode_manifest(encode_manifest(manifest))
        write_bundle(output, manifest, files)
    except OSError as error:
        raise OutputUnwritable(
            f"{output}: {error.strerror or 'cannot be written'}; free some space or choose"
            " another -o"
        ) from error
    except (ModelError, ContractError) as error:
        raise NotARelease(
            f"{output.name}: no bundle can hold this model ({error}); export it with shorter names"
            " and fewer tensors"
        ) from error
    return digest_of(encode_manifest(manifest))


def _files(
    artifact: Artifact,
    calibration: Samples,
    inputs: Sequence[TensorSpec],
    outputs: Sequence[TensorSpec],
    labels: Sequence[str],
) -> dict[str, bytes]:
    """Model, golden samples and profile, in this order."""
    classes = find_classes(outputs, labels)
    suffix = "tflite" if artifact.runtime == "litert" else "onnx"
    return {
        f"{artifact.name}/model.{suffix}": artifact.data,
        f"{artifact.name}/golden.bin": golden_bytes(
            calibration, artifact.answers, outputs, classes, artifact.tolerance
        ),
        f"{artifact.name}/profile.json": profile_bytes(
            artifact.name, calibration, artifact.answers, inputs, outputs, len(labels)
        ),
    }
