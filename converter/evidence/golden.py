"""Golden samples: inputs, and what the shipped artifact itself answered to them.

Owns which samples are taken and how far another processor may stray. A sample that two classes
nearly share is left out: it would tell of rounding, not of a broken device.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from contract.manifest import TensorSpec
from converter.answers import real, span
from converter.samples import Arrays, Samples
from model.golden import GoldenSamples
from model.golden_file import encode_golden

SAMPLES = 24
MAX_BYTES = 1 << 20
"""Golden samples travel to every device; of large inputs there are fewer."""
MIN_SAMPLES = 4
INT8_TOLERANCE = 0.1
"""Of the outputs' span: kernels of other processors round int8 steps the other way."""
FLOAT_TOLERANCE = 0.01
MIN_AGREEMENT = 0.95


def golden_bytes(
    samples: Samples,
    answers: Arrays,
    outputs: Sequence[TensorSpec],
    classes: TensorSpec | None,
    tolerance: float,
) -> bytes:
    """Encoded golden samples. `answers` are the artifact's own, [N, ...] over all `samples`.

    `outputs` say what integers in them mean; `tolerance` is a share of the outputs' span, in real
    units like the errors that a device compares with it.
    """
    quantised = [spec for spec in outputs if spec.quantisation is not None]
    true = {**answers, **real(quantised, answers)}
    chosen = choose(samples, true, classes, tolerance)
    inputs = {name: array[chosen] for name, array in samples.arrays.items()}
    return encode_golden(
        GoldenSamples(
            inputs=inputs,
            outputs={name: array[chosen] for name, array in answers.items()},
            tolerance_abs=tolerance_abs(
                {name: array[chosen] for name, array in true.items()}, tolerance
            ),
            min_agreement=MIN_AGREEMENT,
        )
    )


def choose(
    samples: Samples, answers: Arrays, classes: TensorSpec | None, tolerance: float
) -> NDArray[np.int64]:
    """Places of the golden samples, ascending: the classes by turns, clear answers only."""
    count = min(len(samples), _affordable(samples, answers))
    if classes is None:
        return np.unique(np.linspace(0, len(samples) - 1, count).astype(np.int64))
    scores = answers[classes.name][:].reshape(len(samples), -1)
    clear = _margins(scores) > 2 * tolerance_abs(answers, tolerance)
    order = _by_turns(scores.argmax(axis=1))
    ranked = np.concatenate([order[clear[order]], order[~clear[order]]])
    return np.sort(ranked[:count])


def tolerance_abs(outputs: Arrays, share: float) -> float:
    """The largest error that a golden run forgives, in the outputs' own unit."""
    spans = [span(array) for array in outputs.values()]
    return max(share * max(spans), 1e-3)


def _affordable(samples: Samples, answers: Arrays) -> int:
    arrays = [*samples.arrays.values(), *answers.values()]
    each = sum(array.nbytes // len(array) for array in arrays)
    return int(np.clip(MAX_BYTES // max(each, 1), MIN_SAMPLES, SAMPLES))


def _margins(scores: NDArray[np.float32]) -> NDArray[np.float32]:
    top = np.sort(scores, axis=1)[:, -2:]
    if top.dtype == np.bool_:  # knows no difference
        top = top.astype(np.float32)
    return np.asarray(top[:, 1] - top[:, 0])


def _by_turns(classes: NDArray[np.int64]) -> NDArray[np.int64]:
    """All places, the first of each class before the second of any, and so on."""
    turn = np.zeros(len(classes), dtype=np.int64)
    for label in np.unique(classes):
        members = np.flatnonzero(classes == label)
        turn[members] = np.arange(len(members))
    return np.lexsort((classes, turn)).astype(np.int64)
