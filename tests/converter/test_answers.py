"""Answers to many samples stay on the disk, and every figure over them is what it was in memory."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from contract.manifest import Quantisation, TensorSpec
from converter import errors
from converter.answers import collect, pairs, real, span
from converter.canonical import require_same
from converter.data import rows
from converter.data.rows import Rows
from converter.evaluate import compare
from converter.evidence.golden import golden_bytes
from converter.evidence.reference import profile_bytes
from converter.quantisation.scoring import agreement
from converter.samples import Samples
from tests.converter import models

Array = models.Array
SCORES = TensorSpec(name="y", dtype="float32", shape=[-1, 4])
MASKS = TensorSpec(name="m", dtype="float32", shape=[-1, 16, 16])
INPUT = TensorSpec(name="x", dtype="float32", shape=[-1, 3])


def samples(count: int = 100, folder: Path | None = None) -> Samples:
    return Samples("c.npz", {"x": models.rng(3).random((count, 3), np.float32)}, spool=folder)


def answer(inputs: dict[str, Array], noise: float = 0.0) -> dict[str, Array]:
    x = inputs["x"]
    scores = np.concatenate([x, 1 - x[:, :1]], axis=1)
    masks = np.repeat(np.repeat(x[:, :1, None], 16, 1), 16, 2) + np.float32(noise) * x[:, 1:2, None]
    return {"y": scores / scores.sum(axis=1, keepdims=True) + np.float32(noise), "m": masks}


def both(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, noise: float = 0.0
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The same answers, held in memory and kept on the disk."""
    call = partial(answer, noise=noise)
    held = collect(samples(), -1, call)
    monkeypatch.setattr(rows, "IN_MEMORY_BYTES", 1000)
    monkeypatch.setattr(rows, "BLOCK_BYTES", 9000)
    kept = collect(samples(folder=tmp_path), -1, call)
    return held, kept


def test_many_are_kept_beside_the_bundle_under_no_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    held, kept = both(monkeypatch, tmp_path)
    for name, array in held.items():
        assert isinstance(array, np.ndarray)
        assert isinstance(kept[name], Rows)
        assert (kept[name].shape, kept[name].dtype) == (array.shape, array.dtype)
        np.testing.assert_array_equal(kept[name][:], array)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("labelled", [True, False])
@pytest.mark.parametrize("noise", [0.0, 0.3])
def test_the_comparison_is_the_same_from_memory_and_from_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, noise: float, labelled: bool
) -> None:
    reference = collect(samples(), -1, answer)
    held, kept = both(monkeypatch, tmp_path, noise)
    labels = np.arange(100) % 4 if labelled else None
    found = compare(reference, kept, labels, SCORES)
    assert found == compare(reference, held, labels, SCORES)
    assert (found.values["m"] < 100.0) is (noise > 0)
    assert compare(reference, kept, None, None) == compare(reference, held, None, None)
    assert agreement(reference, kept) == agreement(reference, held)


def test_golden_samples_and_profile_have_the_same_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    held, kept = both(monkeypatch, tmp_path)
    specs = [SCORES, MASKS]
    assert golden_bytes(samples(), kept, specs, SCORES, 0.1) == golden_bytes(
        samples(), held, specs, SCORES, 0.1
    )
    made = [profile_bytes("v", samples(), each, [INPUT], specs, 0) for each in (held, kept)]
    assert made[0] == made[1]
    assert b'"classes": null' not in made[0]


def test_integers_have_their_meaning_wherever_they_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = msgspec.structs.replace(SCORES, dtype="uint8", quantisation=Quantisation(0.5, 10))

    def call(inputs: dict[str, Array]) -> dict[str, Array]:
        return {"y": np.full((len(inputs["x"]), 4), 14, np.uint8)}

    monkeypatch.setattr(rows, "IN_MEMORY_BYTES", 100)
    found = real([steps], collect(samples(folder=tmp_path), -1, call))["y"]
    assert isinstance(found, Rows)
    assert found[:].dtype == np.float32
    assert set(found[:].ravel()) == {2.0}


def test_a_moved_answer_is_found_in_any_block(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    held, kept = both(monkeypatch, tmp_path)
    require_same(held, kept)
    moved = {name: array.copy() for name, array in held.items()}
    moved["m"][-1, 3, 3] += 1.0
    with pytest.raises(errors.ModelChanged, match="output 'm'"):
        require_same(moved, kept)


def test_blocks_meet_each_other_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    held, kept = both(monkeypatch, tmp_path)
    starts = []
    for start, one, other in pairs(kept["m"], held["m"]):
        starts.append(start)
        np.testing.assert_array_equal(one, other)
    assert starts == list(range(0, 100, starts[1]))
    assert span(kept["m"]) == span(held["m"]) == float(np.ptp(held["m"].astype(np.float64)))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_an_answer_that_is_not_finite_is_refused_at_once(bad: float) -> None:
    def call(inputs: dict[str, Array]) -> dict[str, Array]:
        return {"y": np.full((len(inputs["x"]), 2), bad, np.float32)}

    with pytest.raises(errors.InvalidOutput, match=r"c\.npz: output 'y' has NaN or Inf"):
        collect(samples(), -1, call)


def test_text_is_refused() -> None:
    def call(inputs: dict[str, Array]) -> dict[str, Array]:
        return {"y": np.array(["cat"] * len(inputs["x"]), dtype=object)}

    with pytest.raises(errors.UnsupportedTensor, match="'y' is object"):
        collect(samples(), -1, call)


def test_an_output_that_changes_its_shape_is_refused() -> None:
    sizes = iter(range(2, 99))

    def call(inputs: dict[str, Array]) -> dict[str, Array]:
        return {"y": np.zeros((len(inputs["x"]), next(sizes)), np.float32)}

    with pytest.raises(errors.ModelFailed, match="'y' changes its shape"):
        collect(samples(), -1, call)
