"""ONNX -> float TFLite by onnx2tf, in an environment of its own and on a copy of the model.

onnx2tf pins libraries that clash with ours, overwrites its input file, and is silent where it gets
a model wrong: so its answers are compared with the original's before anything is handed on.
"""

from __future__ import annotations

import json
import shlex
import subprocess
import tempfile
from pathlib import Path

import numpy as np

from converter import errors
from converter.frontends.isolation import Limits, read_result, run_process
from converter.frontends.opening import safe_tflite
from converter.frontends.settings import worker_environment
from converter.frontends.sources import SourceOptions
from converter.samples import Samples
from converter.sessions import Runner
from converter.source import SourceModel
from converter.tflite.runner import TfliteRunner
from converter.tflite.source import TfliteModel

VERSION = "2.6.9"
MIN_PYTHON = (3, 12)
TOLERANCE = 1e-3
"""Of the output's largest value, as between the float model and its simplified form."""
_PROBE_S = 30.0
_COMPARED = 64
PINS = Path(__file__).resolve().with_name("onnx2tf-pins.txt")
"""What was tested together, with digests; travels with us, so that a message can name its path."""
_SCRIPT = Path(__file__).resolve().parent / "jobs" / "onnx2tf_script.py"
_PROBE = (
    "import json, sys, importlib.metadata as m\n"
    "try: v = m.version('onnx2tf')\n"
    "except m.PackageNotFoundError: v = ''\n"
    "print(json.dumps([list(sys.version_info[:2]), v]))"
)


def to_tflite(
    source: SourceModel, folded: bytes, samples: Samples, options: SourceOptions
) -> TfliteModel:
    """The float TFLite form of `folded`, the model with its MatMul and Add as Gemm.

    Raises `ExtraMissing`, `PythonTooOld`, `FrontendCrashed`, `ModelChanged` and what the check of a
    TFLite file raises.
    """
    python = require_onnx2tf(source.name, options)
    with tempfile.TemporaryDirectory(prefix="outrider-onnx2tf-") as directory:
        work = Path(directory)
        path = _run(python, source, folded, work, options)
        made = safe_tflite(path, source.name, options)
    _require_same(source, made, samples)
    return made


def require_onnx2tf(name: str, options: SourceOptions) -> Path:
    """The interpreter that has onnx2tf, for the model `name`: seconds, so ask before any work.

    Raises `ExtraMissing`, `PythonTooOld`.
    """
    if options.onnx2tf_python is None:
        raise errors.ExtraMissing(f"{name}: {_how_to_install()}")
    _require_environment(options.onnx2tf_python)
    return options.onnx2tf_python


def _require_environment(python: Path) -> None:
    try:
        found = subprocess.run(
            [str(python), "-I", "-c", _PROBE],
            env=worker_environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_PROBE_S,
            check=True,
        ).stdout
        version, installed = json.loads(found)
    except (OSError, ValueError, subprocess.SubprocessError) as error:
        raise errors.ExtraMissing(
            f"{python}: does not run as a Python; {_how_to_install()}"
        ) from error
    if tuple(version) < MIN_PYTHON:
        raise errors.PythonTooOld(
            f"{python}: Python {version[0]}.{version[1]}, onnx2tf {VERSION} needs"
            f" {MIN_PYTHON[0]}.{MIN_PYTHON[1]} or newer; {_how_to_install()}"
        )
    if installed != VERSION:
        has = f"has onnx2tf {installed}" if installed else "has no onnx2tf"
        raise errors.ExtraMissing(f"{python}: {has}; {_how_to_install()}")


def _how_to_install() -> str:
    return (
        f"TFLite out of ONNX needs onnx2tf {VERSION}: python3.12 -m venv ENV && ENV/bin/pip install"
        f" --require-hashes -r {shlex.quote(str(PINS))}, then --onnx2tf-python ENV/bin/python"
    )


def _run(
    python: Path, source: SourceModel, folded: bytes, work: Path, options: SourceOptions
) -> Path:
    copy, output = work / "model.onnx", work / "out"
    copy.write_bytes(folded)
    names = [spec.name for spec in source.inputs]
    command = [
        str(python.absolute()),
        "-I",
        str(_SCRIPT),
        str(options.memory_bytes),
        str(copy),
        str(output),
        *names,
    ]
    limits = Limits(options.timeout_s, options.memory_bytes)
    run_process(command, Path(source.name), work, limits, worker_environment())
    made = output / "model_float32.tflite"
    read_result(Path(source.name), made)
    return made


def _require_same(source: SourceModel, made: TfliteModel, samples: Samples) -> None:
    wanted = {spec.name: spec.shape[1:] for spec in source.inputs}
    found = {spec.name: spec.shape[1:] for spec in made.inputs}
    if wanted != found:
        raise errors.ModelChanged(
            f"{source.name}: onnx2tf made the inputs {found} of {wanted}; give the model that the"
            " ONNX file was made from"
        )
    few = samples.take(slice(0, _COMPARED))
    before = [a[:] for a in Runner(source.data, source.batch).run(few).values()]
    after = [a[:] for a in TfliteRunner(made.data, made.batch).run(few).values()]
    if len(before) != len(after) or not all(map(_close, before, after)):
        raise errors.ModelChanged(
            f"{source.name}: the TFLite model that onnx2tf made answers otherwise; give the model"
            " that the ONNX file was made from"
        )


def _close(one: np.ndarray[tuple[int, ...], np.dtype[np.float32]], other: object) -> bool:
    reference, answer = np.asarray(one, np.float64), np.asarray(other, np.float64)
    if reference.shape != answer.shape:
        return False
    scale = max(float(np.abs(reference).max(initial=0.0)), 1e-6)
    return float(np.abs(reference - answer).max(initial=0.0)) <= TOLERANCE * scale
