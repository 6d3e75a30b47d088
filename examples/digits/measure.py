"""What a model file of this example is worth: its digest and its accuracy on each held-out part.

Owns: the figures in `accuracy.json` and the comparison of two such records. Refuses: torch; the
files are measured through onnxruntime, as a device would run them.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from examples.digits.data import INPUT_NAME, Samples, Splits

OUTPUT_NAME = "probabilities"
MODEL_FILES = ("digits-1.onnx", "digits-2.onnx")
RECORD_FILE = "accuracy.json"


@dataclass(frozen=True)
class ModelRecord:
    """One model file: accuracies are shares in 0..1, confidence the mean of the top probability."""

    sha256: str
    bytes: int
    evaluation_accuracy: float
    live_accuracy: float
    live_confidence: float


@dataclass(frozen=True)
class Record:
    """What `accuracy.json` holds: how the models came about and what they reach."""

    seed: int
    torch: str
    splits: dict[str, int]
    models: dict[str, ModelRecord]


def probabilities(model: bytes, image: NDArray[np.float32]) -> NDArray[np.float32]:
    """Run the model on scans [N,1,8,8]; returns [N,10], rows that add up to 1."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    (answer,) = session.run([OUTPUT_NAME], {INPUT_NAME: image})
    return np.asarray(answer, dtype=np.float32)


def accuracy(model: bytes, samples: Samples) -> float:
    """Share of the scans whose most probable class is the label."""
    return _share_right(probabilities(model, samples.image), samples)


def measure_model(model: bytes, splits: Splits) -> ModelRecord:
    """Digest, size and accuracies of one model file's bytes."""
    live = probabilities(model, splits.live.image)
    return ModelRecord(
        sha256=hashlib.sha256(model).hexdigest(),
        bytes=len(model),
        evaluation_accuracy=accuracy(model, splits.evaluation),
        live_accuracy=_share_right(live, splits.live),
        live_confidence=round(float(live.max(axis=1).mean()), 4),
    )


def write_record(path: Path, record: Record) -> None:
    """Write the record as indented JSON with a final newline; the same record, the same bytes."""
    path.write_text(json.dumps(asdict(record), indent=2) + "\n", encoding="utf-8")


def read_record(path: Path) -> Record:
    """Read a record that `write_record` wrote."""
    raw = json.loads(path.read_text(encoding="utf-8"))
    models = {name: ModelRecord(**fields) for name, fields in raw.pop("models").items()}
    return Record(**raw, models=models)


def unlike_record(directory: Path, record: Record) -> list[str]:
    """One line for each model file in `directory` that is absent or not the recorded one."""
    lines = []
    for name, facts in record.models.items():
        path = directory / name
        if not path.is_file():
            lines.append(f"{name}: absent from {directory}")
        elif (digest := hashlib.sha256(path.read_bytes()).hexdigest()) != facts.sha256:
            lines.append(f"{name}: sha256 is {digest}, {RECORD_FILE} says {facts.sha256}")
    return lines


def differences(committed: Record, fresh: Record) -> list[str]:
    """One line for each fact in which a fresh training departs from the committed record."""
    lines = [
        f"{field}: committed {old}, now {new}"
        for field in ("seed", "torch", "splits")
        if (old := getattr(committed, field)) != (new := getattr(fresh, field))
    ]
    for name in MODEL_FILES:
        old_model, new_model = asdict(committed.models[name]), asdict(fresh.models[name])
        lines += [
            f"{name}: {fact}: committed {old_model[fact]}, now {new_model[fact]}"
            for fact in old_model
            if old_model[fact] != new_model[fact]
        ]
    return lines


def _share_right(answers: NDArray[np.float32], samples: Samples) -> float:
    return round(float((answers.argmax(axis=1) == samples.labels).mean()), 4)
