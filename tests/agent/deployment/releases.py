"""Real releases of a tiny ONNX classifier: bundle, manifest, blobs, as the hub would hand them out.

Input [batch, 16] float32, output [batch, 3] scores. The first layer is large enough for several
chunks, and stays the same from version to version, so that most chunks can be reused.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from contract.ids import digest_of
from contract.manifest import (
    FileRef,
    GateRecord,
    Manifest,
    Requirements,
    Source,
    TensorSpec,
    Variant,
    encode_manifest,
)
from model.archive import open_bundle, write_bundle
from model.chunks import blobs_of, file_ref, frame
from model.golden import GoldenSamples, encode_golden
from model.profile import build_profile, encode_profile
from model.tensors import Array

WIDTH, HIDDEN, CLASSES = 16, 2048, 3
VARIANT = "onnx-fp32"
INPUTS = [TensorSpec(name="x", dtype="float32", shape=[-1, WIDTH])]
OUTPUTS = [TensorSpec(name="y", dtype="float32", shape=[-1, CLASSES])]


@dataclass(frozen=True)
class Released:
    """A release and everything that a hub knows of it."""

    manifest: Manifest
    manifest_bytes: bytes
    blobs: dict[str, bytes]
    """Digest -> unframed bytes."""

    @property
    def target(self) -> str:
        return self.manifest.target

    @property
    def digest(self) -> str:
        return digest_of(self.manifest_bytes)

    @property
    def variant(self) -> Variant:
        return self.manifest.variants[0]

    @property
    def payloads(self) -> dict[str, bytes]:
        """Digest -> as it travels."""
        return {digest: frame(data) for digest, data in self.blobs.items()}


def make_release(
    directory: Path,
    version: str,
    family: str = "digits",
    golden_error: float = 0.0,
    requires: Requirements | None = None,
    collapsed: bool = False,
) -> Released:
    """One release. `golden_error` spoils the golden outputs, so that its trial fails; a
    `collapsed` one answers class 2 to everything, and its golden samples say so too.
    """
    first, second = _weights(version)
    if collapsed:
        second[:, 2] = np.abs(second).max() + 1
    inputs = np.random.default_rng(7).normal(size=(64, WIDTH)).astype(np.float32)
    answers = np.maximum(inputs @ first, 0) @ second
    golden = GoldenSamples(
        inputs={"x": inputs[:8]},
        outputs={"y": answers[:8] + np.float32(golden_error)},
        tolerance_abs=1e-2,
        min_agreement=1.0,
    )
    profile = build_profile(VARIANT, INPUTS, OUTPUTS, {"x": inputs}, {"y": answers}, CLASSES)
    files = {
        f"{VARIANT}/model.onnx": _model(first, second),
        f"{VARIANT}/golden.bin": encode_golden(golden),
        f"{VARIANT}/profile.json": encode_profile(profile),
    }
    refs = [file_ref(path, data) for path, data in files.items()]
    manifest = _manifest(family, version, refs, requires or Requirements())
    path = directory / f"{family}-{version}.bundle"
    write_bundle(path, manifest, files)
    with open_bundle(path) as bundle:
        return Released(bundle.manifest, bundle.manifest_bytes, dict(blobs_of(bundle)))


def _weights(version: str) -> tuple[Array, Array]:
    shared = np.random.default_rng(1).normal(size=(WIDTH, HIDDEN)).astype(np.float32)
    own = np.random.default_rng(int(digest_of(version.encode())[:8], 16))
    return shared, (own.normal(size=(HIDDEN, CLASSES)) / HIDDEN).astype(np.float32)


def _model(first: Array, second: Array) -> bytes:
    graph = helper.make_graph(
        [
            helper.make_node("MatMul", ["x", "first"], ["a"]),
            helper.make_node("Relu", ["a"], ["b"]),
            helper.make_node("MatMul", ["b", "second"], ["y"]),
        ],
        "tiny",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", WIDTH])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", CLASSES])],
        [numpy_helper.from_array(first, "first"), numpy_helper.from_array(second, "second")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


def _manifest(family: str, version: str, refs: list[FileRef], requires: Requirements) -> Manifest:
    model, golden, profile = refs
    return Manifest(
        family=family,
        version=version,
        source=Source(name="tiny", format="onnx", length=1, digest="0" * 64),
        gate=GateRecord(
            metric="agreement", baseline=100.0, measured=100.0, max_drop=1.0, passed=True
        ),
        variants=[
            Variant(
                name=VARIANT,
                runtime="onnxruntime",
                requires=requires,
                model=model,
                golden=golden,
                profile=profile,
                inputs=INPUTS,
                outputs=OUTPUTS,
            )
        ],
        labels=[str(n) for n in range(CLASSES)],
    )


def encoded(manifest: Manifest) -> bytes:
    """The manifest's canonical bytes."""
    return encode_manifest(manifest)
