"""Mixed precision: units, their ranking, backward elimination, and where it gives up."""

from __future__ import annotations

import onnx
import pytest
from onnx import helper

from converter.quantisation.layers import layer_errors
from converter.quantisation.mixed import (
    STEP_DB,
    TARGET_DB,
    find_float_units,
    nodes_of,
    rank,
    target,
)
from converter.quantisation.scoring import Score
from converter.quantisation.units import find_units, outside, quantisable
from converter.quantise import OPERATORS, quantise
from tests.converter import models
from tests.converter.calibrated import inferred, plain_ranges
from tests.converter.quantisation.networks import chain, samples


def silent(share: float) -> None:
    """Nobody listens."""


def deep(layers: int) -> onnx.ModelProto:
    """Dense layers g0, g1, ... in a row."""
    nodes, weights = [], []
    for i in range(layers):
        nodes.append(helper.make_node("Gemm", [f"t{i}", f"w{i}"], [f"t{i + 1}"], name=f"g{i}"))
        weights.append(models.weight(f"w{i}", 4, 4, seed=i))
    return inferred(
        models.model(
            nodes, [models.tensor("t0", "N", 4)], [models.tensor(f"t{layers}", "N", 4)], weights
        )
    )


class Bench:
    """Stands for quantising and scoring: each harmful node costs so many dB while it is int8."""

    def __init__(self, model: onnx.ModelProto, harm: dict[frozenset[str], float]) -> None:
        self.nodes, self.harm, self.trials = quantisable(model), harm, 0

    def __call__(self, kept: frozenset[str]) -> Score:
        self.trials += 1
        integer = self.nodes - kept
        lost = sum(cost for nodes, cost in self.harm.items() if nodes & integer)
        return Score(40.0 - lost, 100.0 - lost)


def enough(score: Score) -> bool:
    return score.sqnr_db >= 30


# Units


def test_a_unit_is_producer_activation_and_consumers() -> None:
    units = {unit.tensor: unit.nodes for unit in find_units(chain())}
    assert units["c1"] == {"Conv:c1", "Relu:r1", "Conv:c2"}
    assert units["image"] == {"Conv:c1"}
    # onnxruntime 1.23, the last for Python 3.10, has no integer form of Flatten: it passes on
    # alone.
    flatten = {"Flatten:f"} if "Flatten" in OPERATORS else set()
    assert units["p"] == {"GlobalAveragePool:p", "Gemm:scores"} | flatten


def test_a_unit_holds_every_reader_of_its_tensor() -> None:
    made = models.model(
        [
            helper.make_node("Gemm", ["x", "w"], ["a"]),
            helper.make_node("Gemm", ["a", "w"], ["b"]),
            helper.make_node("Add", ["a", "b"], ["y"]),
        ],
        [models.tensor("x", "N", 4)],
        [models.tensor("y", "N", 4)],
        [models.weight("w", 4, 4)],
    )
    units = {unit.tensor: unit.nodes for unit in find_units(inferred(made))}
    assert units["a"] == {"Gemm:a", "Gemm:b", "Add:y"}


def test_no_two_units_are_the_same() -> None:
    nodes = [unit.nodes for unit in find_units(chain())]
    assert len(set(nodes)) == len(nodes)


def test_the_outside_of_all_units_is_empty() -> None:
    made = chain()
    assert outside(made, find_units(made)) == frozenset()
    assert outside(made, []) == quantisable(made)


# The search


def test_the_most_harmful_unit_comes_first() -> None:
    made = deep(6)
    bench = Bench(made, {frozenset({"g3"}): 20.0, frozenset({"g5"}): 5.0})
    ranked = rank(made, bench, silent)
    assert "g3" in ranked[0].nodes
    assert "g3" in ranked[1].nodes
    assert "g5" in ranked[2].nodes


def test_only_what_does_harm_is_kept_in_float() -> None:
    made = deep(8)
    found = find_float_units(made, Bench(made, {frozenset({"g2"}): 25.0}), enough, silent)
    assert found is not None
    assert "g2" in nodes_of(found)
    assert len(nodes_of(found)) <= 2


def test_units_that_turn_out_not_to_matter_go_back_to_integers() -> None:
    made = deep(9)
    # Either of two nodes looks harmful alone; the real culprit ranks third.
    bench = Bench(made, {frozenset({"g1"}): 6.0, frozenset({"g6"}): 5.0})
    found = find_float_units(made, bench, lambda s: s.sqnr_db >= 34, silent)
    assert found is not None
    assert "g1" in nodes_of(found)
    assert "g6" not in nodes_of(found)


def test_a_model_that_needs_half_of_its_layers_in_float_is_given_up() -> None:
    made = deep(6)
    bench = Bench(made, {frozenset({f"g{i}"}): 9.0 for i in range(6)})
    assert find_float_units(made, bench, enough, silent) is None


def test_trials_are_linear_in_the_units() -> None:
    made = deep(10)
    bench = Bench(made, {frozenset({"g2"}): 25.0})
    find_float_units(made, bench, enough, silent)
    assert bench.trials <= 3 * len(find_units(made))


def test_shares_grow() -> None:
    told: list[float] = []
    made = deep(8)
    find_float_units(made, Bench(made, {frozenset({"g2"}): 25.0}), enough, told.append)
    assert told == sorted(told)
    assert told[-1] <= 1


@pytest.mark.parametrize(
    ("before", "score", "good"),
    [
        (Score(10, 80), Score(TARGET_DB, 99.0), True),
        (Score(10, 80), Score(TARGET_DB - 1, 100.0), False),
        (Score(10, 80), Score(TARGET_DB, 98.9), False),
        (Score(30, 100), Score(30 + STEP_DB - 0.1, 100.0), False),
        (Score(30, 100), Score(30 + STEP_DB, 100.0), True),
    ],
)
def test_the_target_is_quieter_than_before(before: Score, score: Score, good: bool) -> None:
    assert target(before, max_drop=1.0)(score) is good


# Per layer


def test_each_layer_is_measured_after_its_activation() -> None:
    made = chain()
    int8, _ = quantise(made, plain_ranges(made, samples()))
    found = layer_errors(made, int8, samples(), -1)
    assert [(e.name, e.operator) for e in found] == [
        ("Conv:c1", "Conv"),
        ("Conv:c2", "Conv"),
        ("Gemm:scores", "Gemm"),
    ]
    assert all(e.integer and 20 < e.sqnr_db < 60 for e in found)


def test_a_layer_that_stayed_float_is_named_so() -> None:
    made = chain()
    kept = {"Conv:c1", "Relu:r1"}
    int8, _ = quantise(made, plain_ranges(made, samples()), keep_float=kept)
    found = layer_errors(made, int8, samples(), -1)
    assert [(e.name, e.integer) for e in found] == [
        ("Conv:c1", False),
        ("Conv:c2", True),
        ("Gemm:scores", True),
    ]


def test_a_layer_in_a_narrow_range_is_the_worst() -> None:
    made = chain()
    ranges = plain_ranges(made, samples())
    narrow = {**ranges, "r2": type(ranges["r2"])(0.0, ranges["r2"].high / 20)}
    narrow["c2"] = narrow["r2"]
    int8, _ = quantise(made, narrow)
    found = {e.name: e.sqnr_db for e in layer_errors(made, int8, samples(), -1)}
    assert found["Conv:c2"] < found["Conv:c1"] - 10
