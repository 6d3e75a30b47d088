"""How near an int8 model comes to the float one on samples that its ranges were not taken from.

Owns what is compared: the scores before the softmax, because probabilities near 0 and 1 hide how
far off a model is until it is wrong. SQNR of scores on 25 samples foretells that on a thousand.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx
from numpy.typing import NDArray

from converter.answers import pairs, span
from converter.data.rows import Array, Rows
from converter.evaluate import CLOSE, sqnr_db
from converter.quantise import FLOAT_TAIL
from converter.samples import Arrays, Samples
from converter.sessions import Runner

MAX_SAMPLES = 256
"""More would cost time and tell nothing new."""


@dataclass(frozen=True)
class Score:
    """SQNR in dB before the softmax, and in percent how many samples get the same answer."""

    sqnr_db: float
    agreement: float


class Judge:
    """Holds the float model's scores; each candidate is run and compared with them."""

    def __init__(self, model: onnx.ModelProto, samples: Samples, batch: int) -> None:
        self._samples = samples.take(slice(0, MAX_SAMPLES))
        self._batch = batch
        self._reference = self._answers(model)

    def score(self, model: onnx.ModelProto) -> Score:
        """Run a model with the same outputs; raises `ModelFailed`, `InvalidOutput`."""
        answers = self._answers(model)
        return Score(sqnr_db(self._reference, answers), agreement(self._reference, answers))

    def _answers(self, model: onnx.ModelProto) -> Arrays:
        exposed, names = expose_scores(model)
        found = Runner(exposed.SerializeToString(), self._batch).run(self._samples)
        return {str(i): found[name] for i, name in enumerate(names)}


def expose_scores(model: onnx.ModelProto) -> tuple[onnx.ModelProto, list[str]]:
    """A copy that answers what goes into each last softmax instead of what comes out of it."""
    exposed = onnx.ModelProto()
    exposed.CopyFrom(model)
    makers = {name: node for node in exposed.graph.node for name in node.output}
    names = []
    for output in model.graph.output:
        maker = makers.get(output.name)
        cut = maker is not None and maker.op_type in FLOAT_TAIL
        names.append(maker.input[0] if maker is not None and cut else output.name)
    kept = {output.name: output for output in model.graph.output}
    del exposed.graph.output[:]
    for name in dict.fromkeys(names):
        exposed.graph.output.append(kept.get(name, onnx.ValueInfoProto(name=name)))
    return exposed, names


def agreement(reference: Arrays, answers: Arrays) -> float:
    """Percent of samples whose top place agrees in every output, or, of single values, is near."""
    agreed = [_agreed(ours, answers[name]) for name, ours in reference.items()]
    return round(100 * float(np.logical_and.reduce(agreed).mean()), 3)


def _agreed(ours: Array | Rows, theirs: Array | Rows) -> NDArray[np.bool_]:
    if ours.ndim == 2 and ours.shape[1] > 1:
        return np.asarray(ours[:].argmax(axis=1) == theirs[:].argmax(axis=1))
    allowed = CLOSE * span(ours)
    parts = [
        (np.abs(one - other) <= allowed).reshape(len(one), -1).all(axis=1)
        for _, one, other in pairs(ours, theirs)
    ]
    return np.concatenate(parts)
