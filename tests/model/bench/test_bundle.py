"""A bundle, measured in children: whatever end a child comes to, the parent tells of it."""

from __future__ import annotations

import sys
from pathlib import Path

import msgspec
import numpy as np
import pytest

from contract.errors import DigestMismatch
from contract.manifest import Manifest, Requirements
from model.archive import write_bundle
from model.bench import bench_bundle
from model.bench.__main__ import NOT_MEASURED, main
from model.chunks import file_ref
from model.errors import BrokenBundle, InvalidBench, NoSuchVariant
from model.golden import GoldenSamples, decode_golden, encode_golden
from model.profile import build_profile, encode_profile
from model.runtimes import open_session
from tests.model.builders import bundle, dense_tflite, dense_variant, release, rng


def _changed(manifest: Manifest, **fields: object) -> Manifest:
    (variant,) = manifest.variants
    return msgspec.structs.replace(manifest, variants=[msgspec.structs.replace(variant, **fields)])


def test_every_variant_of_a_bundle_is_measured_in_a_child(tmp_path: Path) -> None:
    told: list[str] = []
    (found,) = bench_bundle(bundle(tmp_path), runs=10, told=told.append)
    assert found.measured is not None, found.reason
    assert found.measured.passed
    assert found.measured.latency.runs == 10
    assert found.preferred
    assert found.measured.memory.runtime > 1 << 20  # onnxruntime itself is several megabytes
    assert told == [found.name]


def _tflite(folder: Path) -> Path:
    """A bundle of one TensorFlow Lite variant with quantised input and output."""
    weights = rng(4).integers(-9, 9, (3, 4)).astype(np.int8)
    described, data = dense_variant(), dense_tflite(weights)
    (folder / "m.tflite").write_bytes(data)
    session = open_session(described, folder / "m.tflite")
    inputs = {"x": rng(5).integers(-100, 100, (64, 4)).astype(np.int8)}
    outputs = session.infer(inputs)
    golden = GoldenSamples({"x": inputs["x"][:8]}, {"y": outputs["y"][:8]}, 1.0, 1.0)
    profile = build_profile(described.name, described.inputs, described.outputs, inputs, outputs, 0)
    files = {
        "tflite-int8/model.tflite": data,
        "tflite-int8/golden.bin": encode_golden(golden),
        "tflite-int8/profile.json": encode_profile(profile),
    }
    model, gold, prof = (file_ref(path, content) for path, content in files.items())
    manifest, _ = release(folder)
    whole = msgspec.structs.replace(described, model=model, golden=gold, profile=prof)
    changed = msgspec.structs.replace(manifest, variants=[whole], hub_files=[], labels=[])
    write_bundle(folder / "tflite.bundle", changed, files)
    return folder / "tflite.bundle"


def test_a_tensorflow_lite_variant_is_measured_through_its_own_runtime(tmp_path: Path) -> None:
    (found,) = bench_bundle(_tflite(tmp_path), runs=20, threads=2)
    assert found.measured is not None, found.reason
    assert (found.runtime, found.measured.threads) == ("litert", 2)
    assert found.measured.agreement == 1.0
    assert found.measured.passed


def test_a_variant_for_another_machine_is_named_with_the_reason(tmp_path: Path) -> None:
    manifest, files = release(tmp_path)
    elsewhere = _changed(manifest, requires=Requirements(accelerators=["cuda"]))
    path = tmp_path / "cuda.bundle"
    write_bundle(path, elsewhere, files)
    told: list[str] = []
    (found,) = bench_bundle(path, runs=1, told=told.append)
    assert found.measured is None
    assert found.reason == "needs cuda"
    assert told == []
    assert not found.preferred


def test_asked_for_by_name_a_variant_is_tried_and_the_runtime_says_why_not(tmp_path: Path) -> None:
    manifest, files = release(tmp_path)
    elsewhere = _changed(manifest, requires=Requirements(accelerators=["cuda"]))
    path = tmp_path / "cuda.bundle"
    write_bundle(path, elsewhere, files)
    (found,) = bench_bundle(path, elsewhere.variants[0].name, runs=1)
    assert found.measured is None
    assert "CUDAExecutionProvider" in found.reason


def test_answers_that_changed_are_measured_and_do_not_pass(tmp_path: Path) -> None:
    manifest, files = release(tmp_path)
    (variant,) = manifest.variants
    golden = decode_golden(files[variant.golden.path])
    turned = {name: -array for name, array in golden.outputs.items()}
    files[variant.golden.path] = encode_golden(GoldenSamples(golden.inputs, turned, 0.01, 1.0))
    ref = file_ref(variant.golden.path, files[variant.golden.path])
    path = tmp_path / "turned.bundle"
    write_bundle(path, _changed(manifest, golden=ref), files)
    (found,) = bench_bundle(path, runs=1)
    assert found.measured is not None
    assert not found.measured.passed
    assert found.measured.reason


def test_a_variant_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(NoSuchVariant, match="it has"):
        bench_bundle(bundle(tmp_path), "tflite-int4")


@pytest.mark.parametrize(("runs", "threads"), [(0, 1), (-1, 1), (1_000_001, 1), (1, 0), (1, 257)])
def test_runs_and_threads_are_bounded(runs: int, threads: int, tmp_path: Path) -> None:
    with pytest.raises(InvalidBench):
        bench_bundle(tmp_path / "none", runs=runs, threads=threads)


def test_a_file_that_is_no_bundle(tmp_path: Path) -> None:
    path = tmp_path / "text.bundle"
    path.write_text("hello" * 50)
    with pytest.raises(BrokenBundle):
        bench_bundle(path)


def test_an_altered_model_never_reaches_a_runtime(tmp_path: Path) -> None:
    path = bundle(tmp_path)
    data = bytearray(path.read_bytes())
    data[data.index(b"linear") + 2] ^= 1
    path.write_bytes(bytes(data))
    with pytest.raises((DigestMismatch, BrokenBundle)):
        bench_bundle(path, command=("/nonexistent",))


@pytest.mark.parametrize(
    ("program", "expected"),
    [
        ("import os; os.kill(os.getpid(), 11)", "died of SIGSEGV"),
        ("import os; os.kill(os.getpid(), 9)", "died of SIGKILL"),
        ("raise SystemExit('out of luck')", "ended with 1 and no report: out of luck"),
        ("print('{')", "ended with 0 and no report"),
        ("print('[1]' * 100000)", "no report"),
    ],
)
def test_whatever_becomes_of_a_child_is_a_reason(
    program: str, expected: str, tmp_path: Path
) -> None:
    command = (sys.executable, "-c", program)
    (found,) = bench_bundle(bundle(tmp_path), command=command)
    assert found.measured is None
    assert expected in found.reason


def test_the_child_says_why_it_could_not_measure(
    tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    arguments = ["--directory", str(tmp_path), "--variant", "v", "--digest", "0" * 64]
    assert main([*arguments, "--runs", "1", "--threads", "1"]) == NOT_MEASURED
    assert b"manifest.json is missing" in capfdbinary.readouterr().out
