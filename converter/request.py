"""What a conversion is asked to do, and the checks that need no work: names, limits, paths."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from pathlib import Path

from contract.errors import InvalidId
from contract.ids import check_id, check_version
from contract.processing import Processing
from contract.trust import check_family
from converter.errors import InvalidRequest, OutputUnwritable
from converter.gate import DEFAULT_MAX_DROP

MAX_LABELS = 4096


@dataclass(frozen=True)
class ConvertRequest:
    """Paths, names and limits of one conversion. `max_drop` is in percentage points."""

    model: Path
    calib: Path
    family: str
    version: str
    output: Path
    evaluation: Path | None = None
    max_drop: float = DEFAULT_MAX_DROP
    force: bool = False
    device_classes: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()
    with_float: bool = False
    """Whether the float32 model goes along as a second variant, for devices without int8."""
    search: bool = True
    """Whether candidates are tried beyond plain int8, and mixed precision where the gate fails."""
    max_latency_ratio: float | None = None
    """How long int8 may take for one sample here, float32 being 1; None: as long as it likes."""
    fixed_batch: bool = False
    """Whether the model is to take exactly one sample a call, as some accelerators need."""
    integer_io: bool = False
    """Whether the int8 model's inputs and outputs are integers, too."""
    trust_pickle: bool = False
    """Whether the model file may run code while it is read, as a pickle does."""
    source_timeout_s: float = 900.0
    """How long a library of another's may take to read the model."""
    with_tflite: bool = False
    """Whether an int8 TFLite model goes along; TensorFlow's models have one in any case."""
    with_cuda: bool = False
    """Whether a float16 model goes along for devices with CUDA."""
    processing: Processing | None = None
    """How raw files, here and on the device, become the model's input."""
    label_column: str | None = None
    """Of CSV files; None: `label`, where there is one."""
    measurement_cache: Path | None = None
    """Where measured latencies are kept, so that the next conversion takes them; None: nowhere."""
    remeasure: bool = False
    """Whether the clock is asked although a latency is kept."""
    measurements: Path | None = None
    """A bundle or report whose measured latencies are taken, instead of any of this host."""
    onnx2tf_python: Path | None = None
    """The interpreter of onnx2tf's own environment: asks for TFLite out of an ONNX model."""


def check_request(request: ConvertRequest) -> None:
    """Raise `InvalidRequest` or `OutputUnwritable` before any file is read."""
    try:
        check_family(request.family)
        check_version(request.version)
        for name in request.device_classes:
            check_id(name, "device class")
    except InvalidId as error:
        raise InvalidRequest(str(error)) from error
    if not 0 <= request.max_drop <= 100:
        raise InvalidRequest(f"--max-drop {request.max_drop:g}: give points between 0 and 100")
    if not 0 < request.source_timeout_s < math.inf:
        raise InvalidRequest(f"--source-timeout {request.source_timeout_s:g}: give seconds above 0")
    ratio = request.max_latency_ratio
    if ratio is not None and not 0 < ratio < math.inf:
        raise InvalidRequest(f"--max-latency-ratio {ratio:g}: give a number above 0, e.g. 1.0")
    if request.remeasure and request.measurements is not None:
        raise InvalidRequest("--remeasure and --measurements exclude each other; give one of them")
    if request.integer_io and (request.with_float or request.with_cuda):
        raise InvalidRequest(
            "--integer-io: a float variant beside it would have another interface; leave out"
            " --with-float and --with-cuda"
        )
    if len(request.labels) > MAX_LABELS or any(not 0 < len(n) <= 120 for n in request.labels):
        raise InvalidRequest(f"labels: give at most {MAX_LABELS} names of 1 to 120 characters")
    try:
        "".join(request.labels).encode()
    except UnicodeEncodeError as error:
        raise InvalidRequest("labels: not UTF-8 text; save the names as UTF-8") from error
    _check_paths(request)


def _check_paths(request: ConvertRequest) -> None:
    if request.evaluation is not None and _same(request.evaluation, request.calib):
        raise InvalidRequest(
            f"{request.evaluation}: calibration and evaluation are the same file; give two sets of"
            " samples, or leave --eval out to have a quarter held out"
        )
    for path in (request.model, request.calib, request.evaluation):
        if path is not None and _same(path, request.output):
            raise InvalidRequest(f"{path}: the bundle would overwrite its input; choose another -o")
    parent = request.output.absolute().parent
    if not parent.is_dir():
        raise OutputUnwritable(f"{parent}: no such directory; create it first")
    # A device or a pipe would be replaced by a file, also where it is /dev/null.
    special = request.output.exists() and not request.output.is_file()
    if special or not os.access(parent, os.W_OK):
        raise OutputUnwritable(f"{request.output}: cannot be written there; choose another -o")


def _same(one: Path, other: Path) -> bool:
    return one.absolute().resolve() == other.absolute().resolve()
