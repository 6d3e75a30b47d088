"""Leaving trees out: what stays answers like the part it is, and the smallest comes first."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from converter.frontends.forest import Shrunk, shrink
from converter.frontends.opening import open_source
from converter.frontends.sources import SourceOptions, Sources, Trees
from converter.samples import Samples
from tests.converter import models

pytest.importorskip("sklearn")
pytest.importorskip("skl2onnx")
from tests.converter.frontends import estimators  # needs scikit-learn


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Sources]:
    folder = tmp_path_factory.mktemp("forests")
    kinds = ("forest", "regression-forest", "boosting", "histogram-boosting")
    trusted = SourceOptions(trust_pickle=True)
    return {kind: open_source(estimators.dump(folder, kind), trusted) for kind in kinds}


def samples() -> Samples:
    images = estimators.scans()[0]
    return Samples("calib", {"input": images[estimators.TRAINING : estimators.CALIBRATION]})


def shrunk(made: Sources, max_drop: float = 1.0) -> list[Shrunk]:
    assert made.onnx is not None
    assert made.trees is not None
    return list(shrink(made.onnx, made.trees, samples(), max_drop))


def test_candidates_grow_and_the_whole_comes_last(opened: dict[str, Sources]) -> None:
    for made in opened.values():
        found = shrunk(made)
        assert [s.kept for s in found] == sorted({s.kept for s in found})
        assert found[-1].kept == found[-1].total


@pytest.mark.parametrize("kind", ["forest", "regression-forest", "boosting", "histogram-boosting"])
def test_the_whole_answers_like_the_original(kind: str, opened: dict[str, Sources]) -> None:
    """Though zero weights and notes are gone: that alone is half of a forest's file."""
    made, images = opened[kind], estimators.scans()[0]
    whole = shrunk(made)[-1]
    assert made.onnx is not None
    (before,), (after,) = (models.run(d, input=images) for d in (made.onnx, whole.data))
    np.testing.assert_allclose(after, before, rtol=1e-5, atol=1e-6)
    if kind == "forest":
        assert len(whole.data) < 0.6 * len(made.onnx)


def test_a_part_of_a_forest_still_gives_probabilities(opened: dict[str, Sources]) -> None:
    small = shrunk(opened["forest"])[0]
    assert small.kept < small.total
    (answers,) = models.run(small.data, input=estimators.scans()[0])
    np.testing.assert_allclose(answers.sum(axis=1), 1.0, atol=1e-4)


def test_a_part_of_a_regression_forest_keeps_the_scale(opened: dict[str, Sources]) -> None:
    small = shrunk(opened["regression-forest"], max_drop=30.0)[0]
    assert small.kept < small.total
    (answers,) = models.run(small.data, input=estimators.scans()[0])
    assert abs(float(answers.mean()) - 4.5) < 0.5


def test_the_reason_holds_the_figures(opened: dict[str, Sources]) -> None:
    found = shrunk(opened["forest"])
    first, last = found[0], found[-1]
    assert f"{first.kept} of 60 kept" in first.reason
    assert f"{first.agreement:.2f} %" in first.reason
    assert "none could be left out" in last.reason


def test_the_same_forest_is_shrunk_alike(opened: dict[str, Sources]) -> None:
    one, other = shrunk(opened["forest"])[0], shrunk(opened["forest"])[0]
    assert one == other


def test_few_samples_leave_the_ensemble_whole(opened: dict[str, Sources]) -> None:
    made = opened["forest"]
    assert made.onnx is not None
    few = samples().take(slice(0, 2))
    found = list(shrink(made.onnx, Trees(averaged=True), few, 1.0))
    assert [s.kept for s in found] == [60]


def test_a_network_is_left_alone() -> None:
    data = models.classifier().SerializeToString()
    assert list(shrink(data, Trees(averaged=True), samples(), 1.0)) == []


def test_trees_that_are_not_to_be_left_out(opened: dict[str, Sources]) -> None:
    made = opened["forest"]
    assert made.onnx is not None
    assert list(shrink(made.onnx, Trees(averaged=False, per_round=0), samples(), 1.0)) == []


def test_a_shrunk_forest_is_valid_onnx(opened: dict[str, Sources]) -> None:
    model = onnx.load_from_string(shrunk(opened["forest"])[0].data)
    onnx.checker.check_model(model, full_check=True)
    assert model.ir_version <= 8
