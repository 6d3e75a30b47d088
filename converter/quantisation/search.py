"""Which form, range method and activation type to take: candidates, scored on held-back samples.

Owns the order of the candidates and when to stop. The plain one comes first and stays unless
another is better by a margin, so that what chance decides between equals is decided the same way
for the next training of the same network: its unchanged layers then keep their bytes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import onnx

from converter.quantisation.forms import Form, FormName, Forms
from converter.quantisation.retune import retune
from converter.quantisation.scoring import Judge, Score
from converter.quantisation.thresholds import Method
from converter.quantise import quantise

GOOD_ENOUGH_DB = 35.0
"""With full agreement: at this noise no further candidate changes an answer worth the search."""
MARGIN_DB = 0.5
CORRECTION_DB = 0.25
"""Less is asked of the biases: what they correct is known to be an error."""
SLACK = 5.0
"""Points of agreement on the held-back samples, where a single one may be several points."""
FORMS: tuple[FormName, ...] = ("activations", "weights", "both", "opened")
METHODS: tuple[Method, ...] = ("p99.99", "mse")
"""Tried on the best form only. Other percentiles were never the best of our models."""


@dataclass(frozen=True)
class Recipe:
    """How to quantise. `form` names the float model that goes in."""

    form: FormName = "plain"
    method: Method = "minmax"
    corrected: bool = False
    """Whether biases make up for the rounding of the weights."""

    def __str__(self) -> str:
        equalised = "" if self.form == "plain" else f", {_FORM_WORDS[self.form]}"
        return f"{_METHOD_WORDS[self.method]}{equalised}{', biases corrected' * self.corrected}"


@dataclass(frozen=True)
class Candidate:
    """A recipe and how well it did on the held-back samples."""

    recipe: Recipe
    score: Score


PLAIN = Recipe()
_FORM_WORDS = {
    "activations": "activations equalised",
    "weights": "weights equalised",
    "both": "weights, then activations equalised",
    "opened": "weights equalised, ReLU6 opened",
}
_METHOD_WORDS: dict[Method, str] = {
    "minmax": "minimum and maximum",
    "p99.999": "99.999 percent of the values",
    "p99.99": "99.99 percent of the values",
    "p99.9": "99.9 percent of the values",
    "mse": "least squared error",
}


def search(
    forms: Forms, judge: Judge, told: Callable[[float], None]
) -> tuple[Candidate, list[Candidate]]:
    """The best candidate and all that were tried, in that order; `told` hears shares in 0..1."""
    tried: list[Candidate] = []
    most = 1 + len(FORMS) + len(METHODS) + 1

    def tell(recipe: Recipe, made: onnx.ModelProto) -> Candidate:
        tried.append(Candidate(recipe, judge.score(made)))
        told(len(tried) / most)
        return tried[-1]

    best_form, made = forms.plain, _quantised(forms.plain)
    best = plain = tell(PLAIN, made)
    if good_enough(best.score):
        return best, tried
    for name in FORMS:
        form = None if name == "both" and _even(tried, plain) else forms.get(name)
        if form is None:
            continue
        other = _retuned(made, best_form, form, "minmax")
        found = better(best, tell(Recipe(name), other))
        if found is not best:
            best, best_form, made = found, form, other
    for method in METHODS:
        recipe = replace(best.recipe, method=method)
        best = better(best, tell(recipe, _retuned(made, best_form, best_form, method)))
    corrected = forms.corrected(best_form)
    recipe = replace(best.recipe, corrected=True)
    other = _retuned(made, best_form, corrected, best.recipe.method)
    return better(best, tell(recipe, other), CORRECTION_DB), tried


def _even(tried: list[Candidate], plain: Candidate) -> bool:
    """Whether equalising the weights gained nothing, so that it is no base for more."""
    weights = next((c for c in tried if c.recipe.form == "weights"), plain)
    return weights.score.sqnr_db <= plain.score.sqnr_db


def _quantised(form: Form) -> onnx.ModelProto:
    return quantise(form.model, form.ranges("minmax", whole=False))[0]


def _retuned(made: onnx.ModelProto, base: Form, form: Form, method: Method) -> onnx.ModelProto:
    """`form` quantised, out of what was `made` of `base` where their values alone differ."""
    ranges = form.ranges(method, whole=False)
    tuned = retune(made, base.model, form.model, ranges)
    return tuned or quantise(form.model, ranges)[0]


def good_enough(score: Score) -> bool:
    """Whether a search may end here."""
    return score.sqnr_db >= GOOD_ENOUGH_DB and score.agreement == 100.0


def better(best: Candidate, other: Candidate, margin: float = MARGIN_DB) -> Candidate:
    """`best` unless `other` is better by the margin, and does not lose answers for it.

    SQNR decides: on few samples agreement moves in coarse steps.
    """
    louder = other.score.sqnr_db > best.score.sqnr_db + margin
    return other if louder and other.score.agreement >= best.score.agreement - SLACK else best
