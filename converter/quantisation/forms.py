"""The forms that a float model can take before it is quantised: as it is, or equalised.

Owns the order in which they are made, each only when somebody asks for it, and the one pass of
calibration that each of them needs, since their activations are not the same numbers.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

import onnx

from converter.quantisation.calibration import Watched, activations, observe, split
from converter.quantisation.correction import Errors, correct_biases, rounding_errors
from converter.quantisation.equalisation import (
    carriers,
    equalise,
    equalise_activations,
    open_clips,
)
from converter.quantisation.thresholds import Method, choose_range
from converter.ranges import Range
from converter.samples import Samples

FormName = Literal["plain", "activations", "weights", "both", "opened"]
"""`activations` and `weights` say whose ranges were equalised; `opened`: weights, and no ReLU6."""
CORRECTING = (192, 64)
"""Samples that biases are corrected by, of those to fit on and held back: a mean needs no more."""
_SHAPED_BY_SAMPLES = frozenset({"activations", "both"})


@dataclass(frozen=True)
class Form:
    """A float model with the distributions of its activations, fitted and held back."""

    name: FormName
    model: onnx.ModelProto
    fit: Watched
    held: Watched

    def ranges(self, method: Method, *, whole: bool) -> dict[str, Range]:
        """Ranges by activation, from the fitting samples or from the `whole` calibration."""
        watched = self.fit.merged(self.held) if whole else self.fit
        found = {n: choose_range(h, method) for n, h in watched.histograms.items()}
        return {n: found[watched.source.get(n, n)] for n in activations(self.model)}


class Forms:
    """Makes forms of one canonical model; each once. `told` hears shares of the first pass.

    Unless `counted`, there is the plain form alone, with minimum and maximum for its ranges.

    While candidates are compared, nothing that shapes them may come from the samples held back;
    a form `whole` is the same one made from all of them, to ship.
    """

    def __init__(
        self,
        model: onnx.ModelProto,
        samples: Samples,
        batch: int,
        told: Callable[[float], None],
        *,
        counted: bool = True,
    ) -> None:
        self._samples, self._batch, self._counted = samples, batch, counted
        self._made: dict[tuple[FormName, bool], Form] = {
            ("plain", False): self._observe("plain", model, told)
        }
        self._errors: dict[tuple[FormName, bool], tuple[Form, Errors]] = {}

    @property
    def plain(self) -> Form:
        """The model as it is."""
        return self._made["plain", False]

    def get(self, name: FormName, *, whole: bool = False) -> Form | None:
        """The form, or None where the model has nothing of the kind to equalise."""
        whole = whole and name in _SHAPED_BY_SAMPLES
        if (name, whole) not in self._made:
            model = self._build(name, whole)
            if model is None:
                return None
            self._made[name, whole] = self._observe(name, model, _say_nothing, whole=whole)
        return self._made[name, whole]

    def corrected(self, form: Form, *, whole: bool = False) -> Form:
        """The same form with biases that make up for the rounding of the weights."""
        errors = self._errors_of(form, held=False)
        if whole:
            errors = errors.merged(self._errors_of(form, held=True))
        return replace(form, model=correct_biases(form.model, errors))

    def _errors_of(self, form: Form, *, held: bool) -> Errors:
        """Those of the form's weights over one part of the samples; kept for the last form."""
        known = self._errors.get((form.name, held))
        if known is None or known[0] is not form:
            part = int(held)
            places = split(len(self._samples))[part][: CORRECTING[part]]
            found = rounding_errors(form.model, self._samples, places, self._batch)
            known = self._errors[form.name, held] = (form, found)
        return known[1]

    def _build(self, name: FormName, whole: bool) -> onnx.ModelProto | None:
        base = self.plain
        if name == "opened":
            model, opened = open_clips(base.model)
            return equalise(model)[0] if opened else None
        if not base.fit.peaks:
            return None
        if name == "weights":
            return equalise(base.model)[0]
        before = base if name == "activations" else self.get("weights")
        if before is None:
            return None
        watched = before.fit.merged(before.held) if whole else before.fit
        return equalise_activations(before.model, watched.peaks)

    def _observe(
        self,
        name: FormName,
        model: onnx.ModelProto,
        told: Callable[[float], None],
        *,
        whole: bool = False,
    ) -> Form:
        """Nobody looks at the samples held back where the whole form is another model."""
        fitted = name in _SHAPED_BY_SAMPLES and not whole
        shaping = self._counted and name not in _SHAPED_BY_SAMPLES
        peaked = carriers(model) if shaping else []
        fit, held = observe(
            model,
            self._samples,
            self._batch,
            told,
            peaked,
            counted=self._counted,
            fit_only=fitted,
        )
        return Form(name, model, fit, held)


def _say_nothing(share: float) -> None:
    """Later passes are part of the search, which tells of itself."""
