"""The search: which candidates, in which order, and when the first one is good enough."""

from __future__ import annotations

import numpy as np
import pytest

from converter.quantisation.forms import Forms
from converter.quantisation.scoring import Judge, Score
from converter.quantisation.search import (
    GOOD_ENOUGH_DB,
    MARGIN_DB,
    PLAIN,
    Candidate,
    Recipe,
    better,
    good_enough,
    search,
)
from tests.converter import models
from tests.converter.quantisation.networks import chain, samples

SPREAD = (1 / 16, 16, 1, 4, 1 / 4, 1)


def silent(share: float) -> None:
    """Nobody listens."""


def searched(made: object, told: object = silent) -> tuple[Candidate, list[Candidate]]:
    forms = Forms(made, samples(), -1, silent)  # type: ignore[arg-type]  # given by the tests
    held = samples(10, seed=9)
    return search(forms, Judge(made, held, -1), told)  # type: ignore[arg-type]  # as above


def scored(sqnr: float, agreement: float = 100.0, recipe: Recipe = PLAIN) -> Candidate:
    return Candidate(recipe, Score(sqnr, agreement))


def test_a_good_plain_candidate_ends_the_search() -> None:
    made = chain(depthwise=False)
    best, tried = searched(made)
    if good_enough(tried[0].score):
        assert (best.recipe, len(tried)) == (PLAIN, 1)
    assert tried[0].recipe == PLAIN


def test_spread_channels_are_found_and_equalised() -> None:
    best, tried = searched(chain(spread=SPREAD, depthwise=False))
    assert best.recipe.form in {"activations", "weights", "both"}
    assert best.score.sqnr_db > tried[0].score.sqnr_db + 6


def test_both_equalisations_are_tried_only_where_weights_need_one() -> None:
    _, tried = searched(chain(spread=SPREAD, depthwise=False))
    forms = [candidate.recipe.form for candidate in tried]
    weights = next(c for c in tried if c.recipe.form == "weights")
    assert ("both" in forms) == (weights.score.sqnr_db > tried[0].score.sqnr_db)


def test_relu6_is_opened_when_that_is_better() -> None:
    # The bound is never reached, so that opening it changes nothing but what can be equalised.
    made = chain("Clip", spread=SPREAD, depthwise=False)
    models.replace_weight(made, "six", np.asarray(600, np.float32))
    best, tried = searched(made)
    assert best.recipe.form == "opened"
    assert best.score.sqnr_db > tried[0].score.sqnr_db + 6


def test_relu6_stays_where_it_cuts() -> None:
    best, tried = searched(chain("Clip", spread=SPREAD, depthwise=False))
    assert "opened" in {candidate.recipe.form for candidate in tried}
    assert best.recipe.form == "plain"


def test_a_model_without_pairs_has_no_equalised_candidates() -> None:
    _, tried = searched(chain("Sigmoid", spread=SPREAD))
    assert {candidate.recipe.form for candidate in tried} == {"plain"}


def test_methods_and_biases_are_tried_on_the_best_form() -> None:
    _, tried = searched(chain(spread=SPREAD, depthwise=False))
    assert {"p99.99", "mse"} <= {candidate.recipe.method for candidate in tried}
    assert tried[-1].recipe.corrected


def test_no_candidate_is_tried_twice() -> None:
    _, tried = searched(chain(spread=SPREAD))
    recipes = [candidate.recipe for candidate in tried]
    assert len(set(recipes)) == len(recipes)


def test_the_same_search_finds_the_same() -> None:
    assert searched(chain(spread=SPREAD)) == searched(chain(spread=SPREAD))


def test_shares_grow_and_stay_a_share() -> None:
    told: list[float] = []
    searched(chain(spread=SPREAD), told.append)
    assert told == sorted(told)
    assert 0 < told[0] <= told[-1] <= 1


def test_a_small_gain_displaces_nothing() -> None:
    first = scored(30.0)
    assert better(first, scored(30.0 + MARGIN_DB)) is first
    better_one = scored(30.1 + MARGIN_DB)
    assert better(first, better_one) is better_one


def test_a_gain_that_loses_answers_displaces_nothing() -> None:
    first = scored(20.0, 100.0)
    assert better(first, scored(25.0, 90.0)) is first


@pytest.mark.parametrize(
    ("sqnr", "agreement", "enough"),
    [
        (GOOD_ENOUGH_DB, 100.0, True),
        (GOOD_ENOUGH_DB - 0.1, 100.0, False),
        (GOOD_ENOUGH_DB + 9, 99.9, False),
    ],
)
def test_good_enough_is_quiet_and_always_right(sqnr: float, agreement: float, enough: bool) -> None:
    assert good_enough(Score(sqnr, agreement)) is enough


def test_a_recipe_reads_as_words() -> None:
    assert str(PLAIN) == "minimum and maximum"
    recipe = Recipe("activations", "p99.99", corrected=True)
    assert str(recipe) == ("99.99 percent of the values, activations equalised, biases corrected")
