"""The model's outputs, as its own answers show them: names, types, shapes, and the class output."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from contract.manifest import TensorSpec
from converter.errors import BadLabels, UnsupportedTensor
from converter.samples import Arrays
from converter.source import ELEMENT_TYPES, MAX_NAME
from model.answers import class_output

_KNOWN = {np.dtype(name): name for name in ELEMENT_TYPES.values()}


def output_specs(answers: Arrays, batch: int) -> list[TensorSpec]:
    """Specs of answers [N, ...]; `batch` (-1 or 1) stands in front. Raises `UnsupportedTensor`.

    Read from answers and not from the file, because exporters often leave output shapes open.
    """
    specs = []
    for name, array in answers.items():
        if len(name) > MAX_NAME:
            raise UnsupportedTensor(
                f"output {name[:40]!r}… has a name of {len(name)} characters; at most {MAX_NAME},"
                " rename it"
            )
        dtype = _KNOWN.get(array.dtype)
        if dtype is None:
            raise UnsupportedTensor(f"output {name!r} is {array.dtype}; export it as float32")
        specs.append(TensorSpec(name=name, dtype=dtype, shape=[batch, *array.shape[1:]]))
    return specs


def find_classes(specs: Sequence[TensorSpec], labels: Sequence[str]) -> TensorSpec | None:
    """The output that scores the classes, or None when the model is no classifier.

    Raises `BadLabels` when names are given that are not as many as the classes.
    """
    found = class_output(specs, specs[0].shape[:1], len(labels))
    if labels and found is None:
        sizes = [spec.shape[-1] for spec in specs if len(spec.shape) > 1]
        raise BadLabels(
            f"{len(labels)} label names for outputs of size {sizes}; give one name a class, in the"
            " order of the model's output"
        )
    return found
