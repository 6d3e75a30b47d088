"""What a frontend is asked and what it hands to the pipeline. Plain values; opens nothing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from contract.manifest import DType
from converter.tflite.source import TfliteModel

Format = Literal[
    "onnx", "tflite", "savedmodel", "keras", "h5", "torchscript", "pt2", "scikit-learn"
]


@dataclass(frozen=True)
class InputShape:
    """One input's element type and the shape of one sample, without the batch."""

    dtype: DType
    sample: tuple[int, ...]


@dataclass(frozen=True)
class SourceOptions:
    """How a model that is not ONNX may be opened.

    `shapes`: by input name, for TorchScript, which does not know its own. `tflite`: whether a
    float TFLite model is wanted beside the ONNX one. `onnx2tf_python`: the interpreter that makes
    TFLite out of ONNX.
    """

    trust_pickle: bool = False
    tflite: bool = False
    onnx2tf_python: Path | None = None
    shapes: Mapping[str, InputShape] = field(default_factory=dict)
    timeout_s: float = 900.0
    memory_bytes: int = 8 << 30


@dataclass(frozen=True)
class Trees:
    """That the ONNX model is a tree ensemble, and how its trees add up.

    `averaged`: the answer is the trees' mean (a forest); otherwise their sum (boosting), and
    `per_round` trees belong together, 0 when trees of this kind are not to be left out.
    """

    averaged: bool
    per_round: int = 1


@dataclass(frozen=True)
class Sources:
    """One trained model in the forms that the pipeline takes; at least one of them is there."""

    format: Format
    onnx: bytes | None = None
    tflite: TfliteModel | None = None
    notes: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()
    """The classes' names where the model knows them, in the order of its scores."""
    columns: tuple[str, ...] = ()
    """The names of its one input's values, where it was trained on named columns."""
    trees: Trees | None = None
    small: bool = False
    """Whether the model is of a kind for which int8 may well be slower: worth measuring."""
