"""A model's answers to many samples: few are held, many stay on the disk, as the samples do.

Owns collecting them batch by batch, and the passes that read two sets of them side by side. A
picture's answer may be a picture. Refuses NaN, Inf and what no manifest can describe.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from contract.manifest import TensorSpec
from converter.data.rows import Array, Layout, Rows, blocks
from converter.data.spool import Spool
from converter.errors import InvalidOutput, ModelFailed, UnsupportedTensor
from converter.samples import Arrays, Samples
from model.tensors import real_values

Call = Callable[[dict[str, NDArray[Any]]], dict[str, NDArray[Any]]]


def collect(samples: Samples, batch: int, call: Call) -> dict[str, Any]:
    """What `call` answers to all samples, by name: an array [N, ...] or `Rows`.

    `batch`: how many samples a call takes, -1 for any. Raises `InvalidOutput`, `ModelFailed`,
    `UnsupportedTensor`, `SpoolFailed`.
    """
    with ExitStack() as stack:
        spools: dict[str, tuple[Spool, Layout]] = {}
        for inputs in samples.batches(batch):
            for name, answer in call(inputs).items():
                _check(samples, name, answer)
                if name not in spools:
                    said = f"{samples.origin}: output {name!r}"
                    layout = Layout(0, (len(samples), *answer.shape[1:]), answer.dtype)
                    spools[name] = stack.enter_context(Spool(said, samples.spool)), layout
                spool, layout = spools[name]
                if (answer.shape[1:], answer.dtype) != (layout.shape[1:], layout.dtype):
                    raise ModelFailed(
                        f"output {name!r} changes its shape from sample to sample; export the model"
                        " with outputs of a fixed shape"
                    )
                spool.add_rows(answer)
        return {name: spool.array(layout) for name, (spool, layout) in spools.items()}


def real(specs: list[TensorSpec], answers: Arrays) -> dict[str, Any]:
    """The answers in real units as float32, whatever integers the model gives them in."""
    return {spec.name: _changed(answers[spec.name], spec) for spec in specs}


def pairs(ours: Array | Rows, theirs: Array | Rows) -> Iterator[tuple[int, Array, Array]]:
    """(place of the first, rows, rows) of both, float64, a block at a time."""
    for start, block in blocks(ours):
        yield start, wide(block), wide(theirs[start : start + len(block)])


def span(array: Array | Rows) -> float:
    """The difference of the greatest and the least value."""
    ends = [(float(block.min()), float(block.max())) for _, block in blocks(array) if block.size]
    return max(high for _, high in ends) - min(low for low, _ in ends) if ends else 0.0


def wide(values: Array) -> NDArray[np.float64]:
    """As float64: bool knows no difference, and unsigned integers wrap around."""
    return values.astype(np.float64)


def _changed(array: Array | Rows, spec: TensorSpec) -> Array | Rows:
    change = partial(_real, spec)
    return array.changed(change, np.dtype(np.float32)) if isinstance(array, Rows) else change(array)


def _real(spec: TensorSpec, array: Array) -> Array:
    return real_values(spec, array).astype(np.float32)


def _check(samples: Samples, name: str, answer: Array) -> None:
    if answer.dtype.hasobject:
        raise UnsupportedTensor(f"output {name!r} is {answer.dtype}; export it as float32")
    if answer.dtype.kind == "f" and not np.isfinite(answer).all():
        raise InvalidOutput(
            f"{samples.origin}: output {name!r} has NaN or Inf; the model is not usable on"
            " these samples, check their scale"
        )
