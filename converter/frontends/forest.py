"""Trees have no int8 form; this makes a tree ensemble small by leaving trees out, and measures it.

Works on the ONNX form of an ensemble. Which trees stay is judged by how well they repeat the whole
ensemble's answers on calibration samples, without labels. Leaves a model alone that has another
shape than one ensemble node.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper

from converter.evaluate import compare
from converter.frontends.sources import Trees
from converter.outputs import find_classes, output_specs
from converter.samples import Samples
from converter.sessions import Runner

KINDS = {"TreeEnsembleClassifier": "class", "TreeEnsembleRegressor": "target"}
STEPS = 20
"""How many sizes are tried, evenly spread up to the whole."""
MAX_GREEDY = 512
"""Above so many trees, and always for boosting, they stay in the order of training."""
MAX_SAMPLES = 512
MAX_ANSWERS = 1 << 26
"""Numbers held at once while trees are compared: 256 MB."""
JUDGED = 4
"""Every fourth sample judges the choice and takes no part in it."""


@dataclass(frozen=True)
class Shrunk:
    """The smaller ensemble. Rounds are single trees, or one a class where boosting made them."""

    data: bytes
    kept: int
    total: int
    agreement: float
    """With the whole ensemble, on the calibration samples that took no part; percent."""

    @property
    def reason(self) -> str:
        """For the record: what was done instead of int8, with its figures."""
        if self.kept == self.total:
            return f"trees have no int8 form, and of these {self.total} none could be left out"
        return (
            f"trees have no int8 form; {self.kept} of {self.total} kept, which agree on"
            f" {self.agreement:.2f} % of the calibration samples held back"
        )


def shrink(data: bytes, trees: Trees, samples: Samples, max_drop: float) -> Iterator[Shrunk]:
    """Ensembles that agree within `max_drop` points, the smallest first, the whole one last.

    More than one, because calibration may be what the trees were trained on: there a few of them
    agree nearly always. Who asks measures each on samples of his own, and takes the first good one.
    Yields nothing for a model that is not one ensemble.
    """
    model = onnx.load_from_string(data)
    if trees.per_round < 1 or sum(node.op_type in KINDS for node in model.graph.node) != 1:
        return
    ensemble = _Ensemble(model, trees)
    samples = samples.take(slice(0, MAX_SAMPLES))
    if ensemble.rounds > 1 and len(samples) >= JUDGED:
        yield from _smaller(data, ensemble, samples, max_drop)
    yield Shrunk(ensemble.select(range(ensemble.rounds)), ensemble.rounds, ensemble.rounds, 100.0)


def _smaller(
    data: bytes, ensemble: _Ensemble, samples: Samples, max_drop: float
) -> Iterator[Shrunk]:
    place = np.arange(len(samples))
    fit, judge = (samples.take(np.flatnonzero((place % JUDGED == 0) == held)) for held in (0, 1))
    order = ensemble.order(fit)
    whole = Runner(data).run(judge)
    classes = find_classes(output_specs(whole, -1), ())
    for count in _sizes(ensemble.rounds):
        made = ensemble.select(order[:count])
        agreement = compare(whole, Runner(made).run(judge), None, classes).agreement
        if agreement >= 100.0 - max_drop:
            yield Shrunk(made, count, ensemble.rounds, agreement)


def _sizes(rounds: int) -> list[int]:
    spread = np.linspace(0, rounds, STEPS + 1)[1:-1]
    return sorted({max(1, round(float(size))) for size in spread} - {rounds})


class _Ensemble:
    """The one ensemble node of a model, its trees grouped into rounds."""

    def __init__(self, model: onnx.ModelProto, trees: Trees) -> None:
        self._model = model
        self._place = next(i for i, n in enumerate(model.graph.node) if n.op_type in KINDS)
        node = model.graph.node[self._place]
        self._side = KINDS[node.op_type]
        self._values = {a.name: helper.get_attribute_value(a) for a in node.attribute}
        self._ids = np.unique(np.asarray(self._values["nodes_treeids"]))
        self._trees = trees
        self.rounds = max(1, len(self._ids) // trees.per_round)

    def order(self, samples: Samples) -> list[int]:
        """Rounds, the most useful first."""
        names = list(range(self.rounds))
        if not self._trees.averaged or self.rounds > MAX_GREEDY:
            return names
        return _greedy(self._answers(samples))

    def select(self, rounds: Sequence[int]) -> bytes:
        """The model with these rounds alone; a mean stays a mean."""
        size = self._trees.per_round
        chosen = np.sort(self._ids[[r * size + i for r in sorted(rounds) for i in range(size)]])
        averaged = self._trees.averaged and self._values.get("aggregate_function") != b"AVERAGE"
        factor = self.rounds / len(rounds) if averaged else 1.0
        made = onnx.ModelProto()
        made.CopyFrom(self._model)
        node = made.graph.node[self._place]
        kept = self._kept(chosen, factor)
        del node.attribute[:]
        node.attribute.extend(helper.make_attribute(name, kept[name]) for name in sorted(kept))
        data: bytes = made.SerializeToString(deterministic=True)
        return data

    def _kept(self, chosen: NDArray[Any], factor: float) -> dict[str, Any]:
        kept = dict(self._values)
        for prefix in ("nodes", self._side):
            ids = np.asarray(self._values[f"{prefix}_treeids"])
            mask = np.isin(ids, chosen)
            for name, value in self._values.items():
                if name.startswith(f"{prefix}_") and len(value) == len(ids):
                    kept[name] = [item for item, wanted in zip(value, mask, strict=True) if wanted]
        numbers = {int(old): new for new, old in enumerate(chosen)}
        for prefix in ("nodes", self._side):
            kept[f"{prefix}_treeids"] = [numbers[i] for i in kept[f"{prefix}_treeids"]]
        weights = np.asarray(kept[f"{self._side}_weights"], dtype=np.float64) * factor
        kept[f"{self._side}_weights"] = weights.astype(np.float32).tolist()
        self._drop_zeros(kept)
        # Says nothing about an answer, and is a fifth of the file.
        kept.pop("nodes_hitrates", None)
        return {name: value for name, value in kept.items() if value not in ([], b"", "")}

    def _drop_zeros(self, kept: dict[str, Any]) -> None:
        """A leaf lists a weight for each class, nearly all of them 0: the sum does not need them.

        The first entry of each leaf stays, since a leaf without one would be no leaf.
        """
        side = self._side
        if side != "class" or len(_labels(kept)) <= 2:
            return  # of two classes the runtime reads the number of weights as the kind of model
        entries = list(zip(kept[f"{side}_treeids"], kept[f"{side}_nodeids"], strict=True))
        weights = kept[f"{side}_weights"]
        largest: dict[tuple[int, int], int] = {}
        for i, leaf in enumerate(entries):
            if leaf not in largest or weights[i] > weights[largest[leaf]]:
                largest[leaf] = i
        wanted = [weights[i] != 0 or largest[leaf] == i for i, leaf in enumerate(entries)]
        for name in ("ids", "nodeids", "treeids", "weights"):
            values = kept[f"{side}_{name}"]
            kept[f"{side}_{name}"] = [v for v, w in zip(values, wanted, strict=True) if w]

    def _answers(self, samples: Samples) -> NDArray[np.float32]:
        """[rounds, numbers]: what each round would answer if it were alone."""
        first = self._alone(0, samples)
        rows = max(1, min(len(samples), MAX_ANSWERS // (self.rounds * first.shape[1])))
        few = samples.take(slice(0, rows))
        return np.stack([self._alone(i, few).ravel() for i in range(self.rounds)])

    def _alone(self, place: int, samples: Samples) -> NDArray[np.float32]:
        (answer,) = Runner(self.select([place])).run(samples).values()
        return np.asarray(answer[:].reshape(len(answer), -1), dtype=np.float32)


def _labels(values: dict[str, Any]) -> Any:
    return values.get("classlabels_int64s") or values.get("classlabels_strings") or []


def _greedy(answers: NDArray[np.float32]) -> list[int]:
    """Each time the round that brings the mean of those chosen nearest to the mean of all.

    |target - (sum + a) / k|^2 over all candidates a at once, from their inner products.
    """
    target = answers.mean(axis=0, dtype=np.float64)
    centred = answers - target.astype(np.float32)
    squares = np.einsum("ij,ij->i", centred, centred, dtype=np.float64)
    total = np.zeros(answers.shape[1], dtype=np.float32)
    left = np.ones(len(answers), dtype=np.bool_)
    order: list[int] = []
    for _ in range(len(answers)):
        cost = np.where(left, squares + 2.0 * (centred @ total), np.inf)
        best = int(cost.argmin())
        order.append(best)
        left[best] = False
        total += centred[best]
    return order
