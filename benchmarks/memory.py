"""How much memory one whole conversion takes, by the number of its samples.

    python -m benchmarks.memory              both networks, few and many samples, as a table
    python -m benchmarks.memory --of DIR     the conversion of one folder, in this process, as JSON

Owns the folders' contents and the measuring. Each figure is the peak of a process of its own, less
what its imports took; `getrusage` would count what the parent held when it started the child.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import numpy as np

from benchmarks import pictures
from benchmarks.tasks import keywords, spread_depthwise
from converter.convert import convert
from converter.request import ConvertRequest

COUNTS = (100, 5000)


def write_pictures(folder: Path, count: int) -> None:
    """`count` samples to calibrate on and as many to evaluate on, of 96 x 96 x 3."""
    model = pictures.network().SerializeToString(deterministic=True)
    (folder / "m.onnx").write_bytes(model)
    pictures.write_samples(folder / "c.npz", count, seed=1)
    pictures.write_samples(folder / "e.npz", count, seed=2)


def write_keywords(folder: Path, count: int) -> None:
    """The same of 49 x 10 features: keyword spotting's, varied, or else the depthwise network's."""
    task = keywords() or spread_depthwise()
    (folder / "m.onnx").write_bytes(task.model)
    for name, seed in (("c.npz", 1), ("e.npz", 2)):
        chance = np.random.default_rng(seed)
        chosen = task.samples[chance.integers(0, len(task.samples), count)]
        noise = chance.standard_normal(chosen.shape, dtype=np.float32)
        varied = chosen + np.float32(0.01 * chosen.std()) * noise
        np.savez(folder / name, **{task.input_name: varied})


def write_depthwise(folder: Path, count: int) -> None:
    """The same for the depthwise network: its search does all it can."""
    task = spread_depthwise(2 * count)
    (folder / "m.onnx").write_bytes(task.model)
    for place, name in enumerate(("c.npz", "e.npz")):
        part = {task.input_name: task.calibration[place::2]}
        np.savez(folder / name, **part)  # type: ignore[arg-type]  # stub reads ** as allow_pickle


NETWORKS: Mapping[str, Callable[[Path, int], None]] = {
    "keywords, 49 x 10 x 1": write_keywords,
    "depthwise, 24 x 24 x 1": write_depthwise,
    "pictures, 96 x 96 x 3": write_pictures,
}
WAYS: tuple[list[str], list[str]] = ([], ["--search"])


def peak_above_imports(folder: Path, *, search: bool) -> float:
    """MB that one whole conversion adds to this process's peak; call it in a process of its own."""
    before = _peak_mb()
    convert(
        ConvertRequest(
            model=folder / "m.onnx",
            calib=folder / "c.npz",
            evaluation=folder / "e.npz",
            family="benchmark",
            version="1",
            output=folder / "out.bundle",
            force=True,
            search=search,
        )
    )
    return _peak_mb() - before


def measured() -> Iterator[tuple[str, int, float, float]]:
    """(network, samples, plain, search), MB; each in a process of its own."""
    for network, write in NETWORKS.items():
        for count in COUNTS:
            with tempfile.TemporaryDirectory() as directory:
                write(Path(directory), count)
                plain, search = (peak_elsewhere(Path(directory), way) for way in WAYS)
                yield network, count, plain, search


def show() -> None:
    """As a table in Markdown."""
    print("\npeak memory of a whole conversion above the imports, MB\n")
    print("| network | samples to calibrate on, and to evaluate on | plain | search |")
    print("|---|---|---|---|")
    for network, count, plain, search in measured():
        print(f"| {network} | {count:,} | {plain:.0f} | {search:.0f} |", flush=True)


def _peak_mb() -> float:
    status = Path("/proc/self/status").read_text(encoding="ascii")
    (line,) = [line for line in status.splitlines() if line.startswith("VmHWM")]
    return int(line.split()[1]) / 1024


def peak_elsewhere(folder: Path, extra: list[str]) -> float:
    """The same, in a process of its own; `extra` are its options."""
    command = [sys.executable, "-m", "benchmarks.memory", "--of", str(folder), *extra]
    run = subprocess.run(command, capture_output=True, text=True, check=True)
    return float(json.loads(run.stdout))


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--of", type=Path, metavar="DIR", help="print one peak, in MB")
    parser.add_argument("--search", action="store_true", help="of the full search")
    asked = parser.parse_args()
    if asked.of:
        print(json.dumps(peak_above_imports(asked.of, search=asked.search)))
    else:
        show()
    return 0


if __name__ == "__main__":
    sys.exit(main())
