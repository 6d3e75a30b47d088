"""The measurement of memory: whole conversions, in processes of their own."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks import memory


def test_a_conversion_is_measured_apart_from_its_imports(tmp_path: Path) -> None:
    memory.write_pictures(tmp_path, 8)
    found = memory.peak_elsewhere(tmp_path, [])
    assert (tmp_path / "out.bundle").stat().st_size > 0
    assert 1 < found < 300


@pytest.mark.parametrize("network", memory.NETWORKS)
def test_calibration_and_evaluation_share_no_sample(tmp_path: Path, network: str) -> None:
    memory.NETWORKS[network](tmp_path, 9)
    (ours,), (theirs,) = (np.load(tmp_path / name).values() for name in ("c.npz", "e.npz"))
    assert len(ours) == len(theirs) == 9
    assert not any((one == other).all() for one in ours for other in theirs)
