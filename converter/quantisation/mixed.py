"""Mixed precision: which few units must stay float for the rest to be good enough.

Ranks the units by the harm that each does when it alone is quantised, then eliminates backwards:
from the whole int8 model the most harmful unit goes to float, and the next, until the score is
good; at last each is tried in int8 again. Forward search, one node a time, ends on a plateau.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import onnx

from converter.quantisation.scoring import Score
from converter.quantisation.units import Unit, find_units, outside
from converter.quantise import LAYERS

TARGET_DB = 25.0
"""Where measured models kept all but one or two answers of a hundred."""
STEP_DB = 3.0
"""Half of the noise: less would hardly move the gate."""
MIN_INTEGER = 0.5
"""Share of the layers that must stay integer: below, the model is a float model with detours."""

Trial = Callable[[frozenset[str]], Score]
"""Quantises with these nodes kept float, and scores on the held-back samples."""


def find_float_units(
    model: onnx.ModelProto,
    trial: Trial,
    enough: Callable[[Score], bool],
    told: Callable[[float], None],
) -> list[Unit] | None:
    """The units to keep float, most harmful first, or None when half of the layers would not do."""
    units = rank(model, trial, lambda share: told(0.6 * share))
    chosen = _eliminate(model, units, trial, enough, told)
    if chosen is None:
        return None
    return _put_back(chosen, trial, enough)


def rank(model: onnx.ModelProto, trial: Trial, told: Callable[[float], None]) -> list[Unit]:
    """Units by the SQNR that is left when only they are quantised, worst first."""
    units = find_units(model)
    harm: list[tuple[float, int]] = []
    for place, unit in enumerate(units):
        told(place / len(units))
        harm.append((trial(outside(model, [unit])).sqnr_db, place))
    return [units[place] for _, place in sorted(harm)]


def target(before: Score, max_drop: float) -> Callable[[Score], bool]:
    """Good enough to be shown to the gate again, which allows `max_drop` points.

    Better than `before` in any case: that much was not enough.
    """
    least = max(TARGET_DB, before.sqnr_db + STEP_DB)
    return lambda score: score.sqnr_db >= least and score.agreement >= 100 - max_drop


def nodes_of(units: Sequence[Unit]) -> frozenset[str]:
    """The names of all their nodes."""
    return frozenset(name for unit in units for name in unit.nodes)


def _eliminate(
    model: onnx.ModelProto,
    units: Sequence[Unit],
    trial: Trial,
    enough: Callable[[Score], bool],
    told: Callable[[float], None],
) -> list[Unit] | None:
    layers = [node.name for node in model.graph.node if node.op_type in LAYERS]
    chosen: list[Unit] = []
    for place, unit in enumerate(units):
        told(0.6 + 0.4 * place / len(units))
        chosen.append(unit)
        kept = nodes_of(chosen)
        if sum(name not in kept for name in layers) < MIN_INTEGER * len(layers):
            return None
        if enough(trial(kept)):
            return chosen
    return None


def _put_back(chosen: Sequence[Unit], trial: Trial, enough: Callable[[Score], bool]) -> list[Unit]:
    """Without the units that turned out not to matter, the least harmful tried first."""
    kept = list(chosen)
    for unit in reversed(chosen[:-1]):
        fewer = [other for other in kept if other is not unit]
        if enough(trial(nodes_of(fewer))):
            kept = fewer
    return kept
