"""Small real models and releases for the tests: built here, run by the real runtimes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import flatbuffers  # type: ignore[import-untyped]  # it ships no types
import numpy as np
import onnx
from ai_edge_litert import schema_py_generated as tflite
from onnx import TensorProto, helper, numpy_helper

from contract.manifest import (
    FileRef,
    GateRecord,
    Manifest,
    Quantisation,
    Requirements,
    Source,
    TensorSpec,
    Variant,
    encode_manifest,
)
from model.archive import write_bundle
from model.chunks import file_ref
from model.golden import GoldenSamples, encode_golden
from model.profile import build_profile, encode_profile
from model.runtimes import Session, open_session
from model.tensors import Array

IMAGE = TensorSpec(name="image", dtype="float32", shape=[-1, 1, 8, 8])
SCORES = TensorSpec(name="scores", dtype="float32", shape=[-1, 10])
NO_FILE = FileRef(path="x", length=0, digest="0" * 64)


def rng(seed: int = 0) -> np.random.Generator:
    """The tests' only source of chance."""
    return np.random.default_rng(seed)


def images(count: int, seed: int = 0) -> Array:
    """[count, 1, 8, 8] float32 in 0..1."""
    return rng(seed).random((count, 1, 8, 8), dtype=np.float32)


def linear_onnx(seed: int = 0, scale: float = 1.0) -> bytes:
    """image [N,1,8,8] -> scores [N,10]: flatten and one Gemm. Scores are not probabilities."""
    weights = rng(seed).normal(0, scale, (64, 10)).astype(np.float32)
    nodes = [
        helper.make_node("Flatten", ["image"], ["flat"]),
        helper.make_node("Gemm", ["flat", "weights"], ["scores"]),
    ]
    graph = helper.make_graph(
        nodes,
        "linear",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["n", 1, 8, 8])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["n", 10])],
        [numpy_helper.from_array(weights, "weights")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    data: bytes = model.SerializeToString()
    return data


def dense_tflite(weights: Array, input_scale: float = 0.5, output_scale: float = 1.0) -> bytes:
    """x int8 [1,K] -> y int8 [1,C]: one FULLY_CONNECTED with int8 weights [C,K] of scale 1."""
    model = tflite.ModelT()
    model.version = 3
    model.buffers = [tflite.BufferT(), tflite.BufferT()]
    model.buffers[1].data = np.frombuffer(weights.astype(np.int8).tobytes(), np.uint8)
    code = tflite.OperatorCodeT()
    code.builtinCode = code.deprecatedBuiltinCode = tflite.BuiltinOperator.FULLY_CONNECTED
    code.version = 4
    model.operatorCodes = [code]
    classes, columns = weights.shape
    graph = tflite.SubGraphT()
    graph.tensors = [
        _tensor(b"x", [1, columns], 0, input_scale),
        _tensor(b"w", [classes, columns], 1, 1.0),
        _tensor(b"y", [1, classes], 0, output_scale),
    ]
    graph.inputs, graph.outputs = [0], [2]
    operator = tflite.OperatorT()
    operator.opcodeIndex, operator.inputs, operator.outputs = 0, [0, 1, -1], [2]
    operator.builtinOptionsType = tflite.BuiltinOptions.FullyConnectedOptions
    operator.builtinOptions = tflite.FullyConnectedOptionsT()
    graph.operators = [operator]
    model.subgraphs = [graph]
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def _tensor(name: bytes, shape: list[int], buffer: int, scale: float) -> tflite.TensorT:
    tensor = tflite.TensorT()
    tensor.name, tensor.shape, tensor.buffer = name, shape, buffer
    tensor.type = tflite.TensorType.INT8
    if buffer == 0:
        tensor.shapeSignature = [-1, shape[1]]
    tensor.quantization = tflite.QuantizationParametersT()
    tensor.quantization.scale, tensor.quantization.zeroPoint = [scale], [0]
    return tensor


def dense_variant(columns: int = 4, classes: int = 3) -> Variant:
    """The variant that describes `dense_tflite`."""
    return variant(
        "litert",
        [_quantised("x", columns, 0.5)],
        [_quantised("y", classes, 1.0)],
        name="tflite-int8",
    )


def _quantised(name: str, size: int, scale: float) -> TensorSpec:
    return TensorSpec(
        name=name, dtype="int8", shape=[-1, size], quantisation=Quantisation(scale, 0)
    )


def variant(
    runtime: str = "onnxruntime",
    inputs: list[TensorSpec] | None = None,
    outputs: list[TensorSpec] | None = None,
    name: str = "onnx-int8",
    refs: Mapping[str, FileRef] | None = None,
    accelerators: list[str] | None = None,
) -> Variant:
    """A variant; `refs` holds its model, golden and profile."""
    files = refs or dict.fromkeys(("model", "golden", "profile"), NO_FILE)
    return Variant(
        name=name,
        runtime="litert" if runtime == "litert" else "onnxruntime",
        requires=Requirements(accelerators=accelerators or []),
        inputs=inputs or [IMAGE],
        outputs=outputs or [SCORES],
        model=files["model"],
        golden=files["golden"],
        profile=files["profile"],
    )


def linear_session(directory: Path, seed: int = 0) -> Session:
    """`linear_onnx` loaded into onnxruntime."""
    path = directory / f"linear-{seed}.onnx"
    path.write_bytes(linear_onnx(seed))
    return open_session(variant(), path)


def release(directory: Path, seed: int = 0) -> tuple[Manifest, dict[str, bytes]]:
    """A complete release of `linear_onnx`: manifest and files, golden samples and profile made
    through the model itself."""
    session = linear_session(directory, seed)
    samples = images(200, seed)
    answers = session.infer({"image": samples})
    golden = GoldenSamples({"image": samples[:8]}, {"scores": answers["scores"][:8]}, 0.1, 0.9)
    profile = build_profile(
        "onnx-int8", [IMAGE], [SCORES], {"image": samples}, {"scores": answers["scores"]}, 10
    )
    files = {
        "onnx-int8/model.onnx": linear_onnx(seed),
        "onnx-int8/golden.bin": encode_golden(golden),
        "onnx-int8/profile.json": encode_profile(profile),
    }
    refs = {Path(path).stem: file_ref(path, data) for path, data in files.items()}
    files["report.json"] = b'{"accuracy": 1.0}'
    manifest = Manifest(
        family="digits",
        version=str(seed + 1),
        source=Source(name="linear.onnx", format="onnx", length=1, digest="0" * 64),
        gate=GateRecord(metric="accuracy", baseline=99.0, measured=98.9, max_drop=1.0, passed=True),
        variants=[variant(refs=refs)],
        labels=[str(digit) for digit in range(10)],
        hub_files=[file_ref("report.json", files["report.json"], chunked=False)],
    )
    return manifest, files


def install(directory: Path, manifest: Manifest, files: Mapping[str, bytes]) -> Path:
    """Lay a release out as on a device."""
    for ref in manifest.device_files:
        path = directory / "files" / ref.path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(files[ref.path])
    (directory / "manifest.json").write_bytes(encode_manifest(manifest))
    return directory


def bundle(directory: Path, seed: int = 0) -> Path:
    """The release as an unsigned bundle file."""
    manifest, files = release(directory, seed)
    path = directory / f"digits-{seed + 1}.bundle"
    write_bundle(path, manifest, files)
    return path
