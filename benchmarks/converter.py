"""The converter beside raw `quantize_static`, on the same data, in one run.

    python -m benchmarks.converter            all tasks, as a table
    python -m benchmarks.converter --quality  the tasks only
    python -m benchmarks.converter --memory   peak memory only

Owns the measuring; the tasks are `benchmarks.tasks`, memory is measured by `benchmarks.memory`.
Times are medians of alternating runs, so that the machine's mood falls on both alike. Figures in
docs/benchmarks.md come from here.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_static

from benchmarks import memory
from benchmarks.tasks import Task, load_tasks
from converter.convert import Converted, convert
from converter.evaluate import sqnr_db
from converter.latency import measure_latency
from converter.request import ConvertRequest
from converter.samples import Samples
from converter.sessions import Runner, quiet
from model.archive import open_bundle

ROUNDS = 9
LATENCY_ROUNDS = 5


@dataclass(frozen=True)
class Figures:
    """One way to int8 on one task; `seconds` of the whole way, `latency` over float32's."""

    way: str
    accuracy: float
    agreement: float
    sqnr_db: float
    bytes: int
    share: float
    seconds: float
    times_raw: float
    latency: float
    how: str


class _Reader(CalibrationDataReader):  # type: ignore[misc]  # onnxruntime ships no types
    """Calibration for the raw tool, in batches as large as ours."""

    def __init__(self, task: Task) -> None:
        parts = np.array_split(task.calibration, max(1, len(task.calibration) // 32))
        self._parts: Iterator[NDArray[np.float32]] = iter(parts)
        self._name = task.input_name

    def get_next(self) -> dict[str, NDArray[np.float32]] | None:
        part = next(self._parts, None)
        return None if part is None else {self._name: part}


def raw(task: Task, folder: Path) -> bytes:
    """onnxruntime's own static quantisation, per channel, minimum and maximum."""
    before, after = folder / "raw-float.onnx", folder / "raw-int8.onnx"
    before.write_bytes(task.model)
    with quiet():
        quantize_static(
            before,
            after,
            _Reader(task),
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
        )
    return after.read_bytes()


def write_inputs(task: Task, folder: Path) -> None:
    """The files that the command is given; evaluation on what calibration has not seen."""
    (folder / "m.onnx").write_bytes(task.model)
    unseen = slice(task.unseen, None, task.every)
    calib = {task.input_name: task.calibration}
    evaluation = {task.input_name: task.samples[unseen], "labels": task.labels[unseen]}
    np.savez(folder / "c.npz", **calib)  # type: ignore[arg-type]  # stub reads ** as allow_pickle
    np.savez(folder / "e.npz", **evaluation)  # type: ignore[arg-type]  # as above


def converted(folder: Path, *, search: bool) -> tuple[bytes, Converted]:
    """The whole command: from the files of `write_inputs` to the bundle on the disk."""
    done = convert(
        ConvertRequest(
            model=folder / "m.onnx",
            calib=folder / "c.npz",
            evaluation=folder / "e.npz",
            family="benchmark",
            version="1",
            output=folder / "out.bundle",
            max_drop=100.0,
            search=search,
        )
    )
    with open_bundle(done.path) as bundle:
        return bundle.read(bundle.manifest.variants[0].model), done


def measure(task: Task, folder: Path) -> list[Figures]:
    """All ways on one task, timed by turns."""
    write_inputs(task, folder)
    ways: dict[str, Callable[[], bytes]] = {
        "quantize_static": lambda: raw(task, folder),
        "outrider, plain": lambda: converted(folder, search=False)[0],
        "outrider, search": lambda: converted(folder, search=True)[0],
    }
    made = {name: way() for name, way in ways.items()}  # and warms up
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(ROUNDS):
        for name, way in ways.items():
            start = time.perf_counter()
            way()
            seconds[name].append(time.perf_counter() - start)
    medians = {name: float(np.median(times)) for name, times in seconds.items()}
    how = converted(folder, search=True)[1].report.quantiser.ranges
    return [
        _figures(task, name, data, medians[name], medians["quantize_static"], how)
        for name, data in made.items()
    ]


def _figures(
    task: Task, way: str, data: bytes, seconds: float, raw_seconds: float, how: str
) -> Figures:
    samples = Samples(task.name, {task.input_name: task.samples})
    float32, int8 = Runner(task.model), Runner(data)
    reference = float32.run(samples)[task.output_name]
    answers = int8.run(samples)[task.output_name]
    ratios = [measure_latency(int8, float32, samples) for _ in range(LATENCY_ROUNDS)]
    return Figures(
        way=way,
        accuracy=100 * float((answers.argmax(axis=1) == task.labels).mean()),
        agreement=100 * float((answers.argmax(axis=1) == reference.argmax(axis=1)).mean()),
        sqnr_db=sqnr_db({"": reference}, {"": answers}),
        bytes=len(data),
        share=len(data) / len(task.model),
        seconds=seconds,
        times_raw=seconds / raw_seconds,
        latency=float(np.median([r.p50_ms / r.p50_ms_float32 for r in ratios])),
        how=how if way == "outrider, search" else "minimum and maximum",
    )


def float_accuracy(task: Task) -> float:
    """Percent of the float model on all samples."""
    answers = Runner(task.model).run(Samples(task.name, {task.input_name: task.samples}))
    return 100 * float((answers[task.output_name].argmax(axis=1) == task.labels).mean())


def show(task: Task, found: list[Figures]) -> None:
    """One task as a table in Markdown."""
    print(f"\n{task.name}: float32 {float_accuracy(task):.2f} %, {len(task.model):,} bytes,")
    print(f"{len(task.calibration)} samples to calibrate on, {len(task.samples):,} measured\n")
    print("| way | accuracy | agreement | SQNR | bytes | of float | latency | seconds | x raw |")
    print("|---|---|---|---|---|---|---|---|---|")
    for f in found:
        print(
            f"| {f.way} | {f.accuracy:.2f} | {f.agreement:.2f} | {f.sqnr_db:.1f} dB | {f.bytes:,}"
            f" | {f.share:.3f} | {f.latency:.2f} | {f.seconds:.2f} | {f.times_raw:.1f} |"
        )
    print(f"\nchosen: {found[-1].how}")


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--memory", action="store_true", help="only peak memory")
    parser.add_argument("--quality", action="store_true", help="only the tasks")
    asked = parser.parse_args()
    print(f"onnxruntime {onnxruntime.__version__}, Python {sys.version.split()[0]}")
    if asked.quality or not asked.memory:
        with tempfile.TemporaryDirectory() as directory:
            for task in load_tasks():
                show(task, measure(task, Path(directory)))
    if asked.memory or not asked.quality:
        memory.show()
    return 0


if __name__ == "__main__":
    sys.exit(main())
