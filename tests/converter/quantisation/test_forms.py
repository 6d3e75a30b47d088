"""Forms are made once each, and no sample is looked at that nobody asks about."""

from __future__ import annotations

import numpy as np
import pytest

from converter.quantisation.forms import FormName, Forms
from converter.quantisation.histogram import Histogram
from tests.converter.quantisation.networks import chain, constant, samples

SPREAD = [1 / 16, 1 / 4, 1, 1, 4, 16]


def forms() -> Forms:
    return Forms(chain(spread=SPREAD), samples(40), -1, lambda share: None)


@pytest.mark.parametrize("name", ["activations", "both"])
def test_samples_held_back_count_for_the_whole_form_only(name: FormName) -> None:
    made = forms()
    compared, whole = made.get(name), made.get(name, whole=True)
    assert compared is not None
    assert whole is not None
    assert counted(compared.held.histograms["r1"]) == 0
    assert counted(whole.held.histograms["r1"]) == counted(whole.fit.histograms["r1"]) / 3


def test_a_form_that_no_sample_shapes_is_one_for_both() -> None:
    made = forms()
    assert made.get("weights") is made.get("weights", whole=True)


def test_the_whole_form_is_corrected_by_all_samples() -> None:
    made = forms()
    fitted, whole = made.corrected(made.plain), made.corrected(made.plain, whole=True)
    anew = forms()
    again = anew.corrected(anew.plain, whole=True)
    assert not np.array_equal(constant(fitted.model, "b1"), constant(whole.model, "b1"))
    np.testing.assert_array_equal(constant(whole.model, "b1"), constant(again.model, "b1"))


def counted(histogram: Histogram) -> int:
    return int(histogram.counts.sum())
