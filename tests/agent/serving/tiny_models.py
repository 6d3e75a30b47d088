"""Installed releases of tiny ONNX models, made in milliseconds, and a real server to serve them."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from agent.serving.client import ServerClient
from agent.serving.protocol import HttpFile, control_socket, http_file
from agent.store.serving_file import ServingEntry, ServingFile, write_serving
from contract.ids import digest_of
from contract.manifest import GateRecord, Manifest, Requirements, Source, TensorSpec, Variant
from contract.manifest import encode_manifest as encode
from model.archive import open_bundle, write_bundle
from model.chunks import file_ref
from model.golden import GoldenSamples
from model.golden_file import encode_golden
from model.profile import build_profile, encode_profile

ROOT = Path(__file__).parents[3]
WEIGHTS = np.arange(12, dtype=np.float32).reshape(4, 3) / 10
INPUTS = [TensorSpec(name="x", dtype="float32", shape=[-1, 4])]
OUTPUTS = [TensorSpec(name="y", dtype="float32", shape=[-1, 3])]
SAMPLES: npt.NDArray[np.float32] = np.random.default_rng(7).normal(size=(32, 4)).astype(np.float32)


@dataclass(frozen=True)
class Release:
    """An installed release, as the store would leave it."""

    family: str
    version: str
    digest: str
    directory: Path
    variant: str = "onnx-fp32"

    def entry(self, previous: Release | None = None, probation: bool = False) -> ServingEntry:
        """Its entry in serving.json."""
        return ServingEntry(
            digest=self.digest,
            directory=str(self.directory),
            variant=self.variant,
            target=f"{self.family}/{self.version}",
            previous=previous.entry() if previous else None,
            probation=probation,
        )


def scaled(scale: float) -> bytes:
    """y = scale * x @ WEIGHTS."""
    node = helper.make_node("MatMul", ["x", "w"], ["y"])
    return _model([node], [numpy_helper.from_array(WEIGHTS * np.float32(scale), "w")])


def square_root() -> bytes:
    """y = sqrt(x @ WEIGHTS): NaN for what is negative."""
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["z"]),
        helper.make_node("Sqrt", ["z"], ["y"]),
    ]
    return _model(nodes, [numpy_helper.from_array(WEIGHTS, "w")])


def constant() -> bytes:
    """y = 0 * x @ WEIGHTS + 1."""
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["z"]),
        helper.make_node("Add", ["z", "one"], ["y"]),
    ]
    weights = numpy_helper.from_array(np.zeros((4, 3), np.float32), "w")
    return _model(nodes, [weights, numpy_helper.from_array(np.float32(1), "one")])


def slow(turns: int = 300_000) -> bytes:
    """y = x @ WEIGHTS, after counting to `turns`: about half a second by default."""
    body = helper.make_graph(
        [
            helper.make_node("Identity", ["go"], ["go_on"]),
            helper.make_node("Identity", ["before"], ["after"]),
        ],
        "count",
        [
            helper.make_tensor_value_info("turn", TensorProto.INT64, []),
            helper.make_tensor_value_info("go", TensorProto.BOOL, []),
            helper.make_tensor_value_info("before", TensorProto.FLOAT, ["n", 3]),
        ],
        [
            helper.make_tensor_value_info("go_on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("after", TensorProto.FLOAT, ["n", 3]),
        ],
    )
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["z"]),
        helper.make_node("Loop", ["turns", "", "z"], ["y"], body=body),
    ]
    turns_tensor = numpy_helper.from_array(np.array(turns, np.int64), "turns")
    return _model(nodes, [numpy_helper.from_array(WEIGHTS, "w"), turns_tensor])


def install(
    state_dir: Path,
    version: str,
    model: bytes,
    family: str = "tiny",
    outputs: npt.NDArray[np.float32] | None = None,
) -> Release:
    """Bundle the model, and install the bundle's files under the state folder's store."""
    answers = SAMPLES @ WEIGHTS if outputs is None else outputs
    golden = GoldenSamples({"x": SAMPLES}, {"y": answers.astype(np.float32)}, 1e-4, 1.0)
    profile = build_profile("onnx-fp32", INPUTS, OUTPUTS, golden.inputs, golden.outputs)
    files = {
        "model.onnx": model,
        "golden.bin": encode_golden(golden),
        "profile.json": encode_profile(profile),
    }
    manifest = _manifest(family, version, files)
    bundle_path = state_dir / f"{family}-{version}.bundle"
    write_bundle(bundle_path, manifest, files)
    directory = state_dir / "store" / family / digest_of(encode(manifest))
    (directory / "files").mkdir(parents=True)
    with open_bundle(bundle_path) as bundle:
        (directory / "manifest.json").write_bytes(bundle.manifest_bytes)
        for ref in bundle.manifest.device_files:
            (directory / "files" / ref.path).write_bytes(bundle.read(ref))
        digest = digest_of(bundle.manifest_bytes)
    return Release(family, version, digest, directory)


def serve_at_boot(
    state_dir: Path, release: Release, previous: Release | None = None, probation: bool = False
) -> None:
    """Write serving.json."""
    entry = release.entry(previous, probation)
    write_serving(state_dir, ServingFile(families={release.family: entry}))


@dataclass
class Running:
    """A server process of its own, ready."""

    process: subprocess.Popen[bytes]
    port: int
    client: ServerClient
    log: Path

    @property
    def url(self) -> str:
        """As tritonclient takes it."""
        return f"127.0.0.1:{self.port}"


@contextlib.contextmanager
def server(state_dir: Path, *arguments: str, port: int = 0) -> Iterator[Running]:
    """Start `python -m agent.serving`, wait until it is ready, and stop it at the end."""
    log = state_dir / "server.log"
    command = [sys.executable, "-m", "agent.serving", "--state", str(state_dir)]
    with log.open("ab") as output:
        process = subprocess.Popen(
            [*command, "--port", str(port), *arguments], cwd=ROOT, stdout=output, stderr=output
        )
    try:
        ready = wait_ready(state_dir, process, log)
        yield Running(process, ready.port, ServerClient(control_socket(state_dir)), log)
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(10)
            raise


def wait_ready(state_dir: Path, process: subprocess.Popen[bytes], log: Path) -> HttpFile:
    """http.json of exactly this process."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise AssertionError(f"the server ended with {process.returncode}: {log.read_text()}")
        with contextlib.suppress(FileNotFoundError):
            found = msgspec.json.decode(http_file(state_dir).read_bytes(), type=HttpFile)
            if found.pid == process.pid:
                return found
        time.sleep(0.01)
    raise AssertionError(f"the server was not ready in time: {log.read_text()}")


def _model(nodes: list[Any], initializers: list[Any]) -> bytes:
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 3])],
        initializers,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 8
    onnx.checker.check_model(model)
    data: bytes = model.SerializeToString()
    return data


def _manifest(family: str, version: str, files: dict[str, bytes]) -> Manifest:
    refs = {path: file_ref(path, data) for path, data in files.items()}
    variant = Variant(
        name="onnx-fp32",
        runtime="onnxruntime",
        requires=Requirements(),
        model=refs["model.onnx"],
        golden=refs["golden.bin"],
        profile=refs["profile.json"],
        inputs=INPUTS,
        outputs=OUTPUTS,
    )
    return manifest_of(family, version, [variant])


def manifest_of(family: str, version: str, variants: list[Variant]) -> Manifest:
    """A release's manifest around its variants."""
    return Manifest(
        family=family,
        version=version,
        source=Source(name="tiny.onnx", format="onnx", length=1, digest="0" * 64),
        gate=GateRecord(
            metric="agreement", baseline=100.0, measured=100.0, max_drop=1.0, passed=True
        ),
        variants=variants,
        labels=["a", "b", "c"],
    )
