"""The network and the samples that memory is measured with are real ones."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx

from benchmarks import pictures
from converter.samples import Samples, read_samples
from converter.sessions import Runner
from converter.source import read_source


def test_the_network_answers_pictures_differently(tmp_path: Path) -> None:
    onnx.save(pictures.network(), tmp_path / "m.onnx")
    pictures.write_samples(tmp_path / "c.npz", 60, seed=1)
    source = read_source(tmp_path / "m.onnx")
    samples = read_samples(tmp_path / "c.npz", source.inputs)
    assert samples.arrays["image"].shape == (60, 3, 96, 96)
    (answers,) = Runner(source.data).run(samples).values()
    assert np.isfinite(answers).all()
    assert len(np.unique(answers[:, 0])) == 60


def test_equal_seeds_give_equal_bytes(tmp_path: Path) -> None:
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        pictures.write_samples(tmp_path / f"{name}.npz", 3, seed)
    found = [np.load(tmp_path / f"{name}.npz")["image"] for name in "abc"]
    np.testing.assert_array_equal(found[0], found[1])
    assert not np.array_equal(found[0], found[2])
    assert len(Samples("c", {"image": found[2]})) == 3
