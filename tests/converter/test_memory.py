"""Memory of a conversion does not grow with its samples, whatever they come from.

What is measured is structure, not time: 5,000 samples of 138 MB must not add a quarter of that to
what 100 samples take, in processes of their own; and no reader may hold what it reads.
"""

from __future__ import annotations

import csv
import json
import subprocess
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from contract.manifest import TensorSpec
from contract.processing import ImageInput, Processing
from converter import ranges
from converter.data import rows
from converter.data.raw import Reading
from converter.samples import hold_out, read_samples

SHAPE = (3, 48, 48)
MANY, FEW = 5000, 100
SPEC = [TensorSpec(name="x", dtype="float32", shape=[-1, *SHAPE])]

_CONVERT = """
import json, sys
from pathlib import Path
from converter.convert import convert
from converter.request import ConvertRequest

def peak():
    status = Path("/proc/self/status").read_text()
    return next(int(l.split()[1]) << 10 for l in status.splitlines() if l.startswith("VmHWM"))

folder, before = Path(sys.argv[1]), peak()
convert(ConvertRequest(
    model=folder / "m.onnx", calib=folder / "c.npy", family="f", version="1",
    output=folder / "out.bundle", force=True, with_float=True,
))
print(json.dumps(peak() - before))
"""


def images(count: int, shape: tuple[int, ...] = SHAPE) -> NDArray[np.float32]:
    return np.random.default_rng(count).random((count, *shape), dtype=np.float32)


def network() -> onnx.ModelProto:
    """Two layers, so that time goes into the samples and not into the arithmetic."""
    chance = np.random.default_rng(1)
    shapes = {"w": (8, 3, 8, 8), "d": (4, 8)}
    weights = [
        numpy_helper.from_array((chance.standard_normal(s) / 9).astype(np.float32), n)
        for n, s in shapes.items()
    ]
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"], strides=[8, 8]),
        helper.make_node("Relu", ["c"], ["r"]),
        helper.make_node("GlobalAveragePool", ["r"], ["p"]),
        helper.make_node("Flatten", ["p"], ["f"]),
        helper.make_node("Gemm", ["f", "d"], ["y"], transB=1),
    ]
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", *SHAPE])]
    outputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 4])]
    graph = helper.make_graph(nodes, "tiny", inputs, outputs, weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def pictures_to_pictures() -> onnx.ModelProto:
    """A network whose answers are as large as its samples, as masks and rebuilt pictures are."""
    made = network()
    del made.graph.node[1:], made.graph.output[:], made.graph.initializer[1:]
    made.graph.node[0].CopyFrom(helper.make_node("Conv", ["x", "w"], ["y"], pads=[1, 1, 1, 1]))
    kernel = np.random.default_rng(2).normal(0, 0.2, (3, 3, 3, 3)).astype(np.float32)
    made.graph.initializer[0].CopyFrom(numpy_helper.from_array(kernel, "w"))
    made.graph.output.append(helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", *SHAPE]))
    return made


def grown(folder: Path, count: int, made: onnx.ModelProto) -> int:
    """By how many bytes the peak of a process grows that converts with `count` samples."""
    folder.mkdir()
    onnx.save(made, folder / "m.onnx")
    np.save(folder / "c.npy", images(count))
    run = subprocess.run(
        [sys.executable, "-c", _CONVERT, str(folder)],
        capture_output=True,
        text=True,
        timeout=100,
        check=True,
    )
    (folder / "c.npy").unlink()
    return int(json.loads(run.stdout))


def test_five_thousand_samples_take_the_memory_of_a_hundred(tmp_path: Path) -> None:
    few, many = (grown(tmp_path / str(n), n, network()) for n in (FEW, MANY))
    assert many - few < MANY * 4 * int(np.prod(SHAPE)) / 4
    assert many < 300 << 20


def test_answers_as_large_as_the_samples_do_not_grow_either(tmp_path: Path) -> None:
    made = pictures_to_pictures()
    few, many = (grown(tmp_path / str(n), n, made) for n in (FEW, MANY // 5))
    assert many - few < MANY // 5 * 4 * int(np.prod(SHAPE)) / 2
    assert many < 300 << 20


@pytest.mark.parametrize("kind", ["npy", "columns first", "wider", "stored", "deflated"])
def test_arrays_are_checked_without_being_held(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    def peak(count: int) -> int:
        values, path = images(count), tmp_path / "c.npz"
        if kind == "stored":
            np.savez(path, x=values)
        elif kind == "deflated":
            np.savez_compressed(path, x=values)
        else:
            path = tmp_path / "c.npy"
            changed = {"columns first": np.asfortranarray(values), "wider": values.astype("<f8")}
            np.save(path, changed.get(kind, values))
        return _peak_of_reading(path, SPEC, Reading(spool=tmp_path))

    _shrink(monkeypatch)
    assert peak(400) - peak(100) < images(300).nbytes / 8


def test_pictures_are_decoded_one_by_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = ImageInput(input="x", height=64, width=64, layout="nchw")
    spec = [TensorSpec(name="x", dtype="float32", shape=[-1, 3, 64, 64])]
    reading = Reading(Processing(inputs=[recipe]), spool=tmp_path)

    def peak(count: int) -> int:
        folder = tmp_path / str(count)
        folder.mkdir()
        for place, pixels in enumerate(images(count, (16, 16, 3))):
            Image.fromarray((255 * pixels).astype(np.uint8)).save(folder / f"{place}.png")
        return _peak_of_reading(folder, spec, reading)

    _shrink(monkeypatch)
    assert peak(440) - peak(140) < 300 * 3 * 64 * 64 * 4 / 8


def test_tables_are_read_line_by_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def peak(lines: int) -> int:
        with (tmp_path / "set.csv").open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow([f"c{place}" for place in range(400)])
            writer.writerows(images(lines, (400,)).tolist())
        spec = [TensorSpec(name="x", dtype="float32", shape=[-1, 400])]
        return _peak_of_reading(tmp_path / "set.csv", spec, Reading(spool=tmp_path))

    _shrink(monkeypatch)
    assert peak(1200) - peak(400) < 800 * 400 * 4 / 4  # names and digests are held of each line


def _shrink(monkeypatch: pytest.MonkeyPatch) -> None:
    """Smaller bounds, so that a small test has samples beyond them."""
    monkeypatch.setattr(rows, "IN_MEMORY_BYTES", 100_000)
    monkeypatch.setattr(rows, "BLOCK_BYTES", 100_000)
    monkeypatch.setattr("converter.data.spool._TURNED_BYTES", 1_000_000)
    monkeypatch.setattr("converter.data.archive.BLOCK_BYTES", 100_000)
    monkeypatch.setattr(ranges, "_BULK_VALUES", 1000)


def _peak_of_reading(path: Path, spec: list[TensorSpec], reading: Reading) -> int:
    """Bytes, from the file to the last check of both halves and a pass over their batches."""
    tracemalloc.start()
    try:
        calibration, evaluation = hold_out(read_samples(path, spec, reading))
        ranges.refuse_overlap(calibration, evaluation)
        ranges.find_outlier(calibration)
        ranges.find_mismatch(calibration, evaluation)
        for half in (calibration, evaluation):
            assert sum(len(batch["x"]) for batch in half.batches()) == len(half)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
