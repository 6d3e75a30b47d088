"""What is watched: columns of tables, statistics of everything else, alike alone and in a batch."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from contract.manifest import Quantisation, TensorSpec
from model.errors import InvalidInput
from model.features import MAX_FEATURES, feature_names, feature_rows, watched
from model.tensors import Array
from tests.model.builders import IMAGE, images, rng

TABLE = TensorSpec(name="t", dtype="float32", shape=[-1, 3])
AUDIO = TensorSpec(name="a", dtype="float32", shape=[-1, 49, 10, 1])
EMBEDDING = TensorSpec(name="e", dtype="float32", shape=[-1, 200])


def _row(array: Array, spec: TensorSpec = IMAGE) -> dict[str, float]:
    values = feature_rows([spec], {spec.name: array})
    return dict(zip(feature_names([spec]), values[0].tolist(), strict=True))


def test_a_scan_has_ten_statistics() -> None:
    names = "mean", "std", "min", "p05", "p50", "p95", "max", "edge", "centre-row", "centre-column"
    assert feature_names([IMAGE]) == [f"image.{name}" for name in names]


def test_a_table_is_watched_by_column() -> None:
    assert feature_names([TABLE]) == ["t[0]", "t[1]", "t[2]"]
    rows = rng().normal(size=(5, 3)).astype(np.float32)
    np.testing.assert_array_equal(feature_rows([TABLE], {"t": rows}), rows.astype(np.float64))


def test_a_wide_table_is_summarised_without_a_centre() -> None:
    names = feature_names([EMBEDDING])
    assert len(names) == 8
    assert not any("centre" in name for name in names)
    assert feature_rows([EMBEDDING], {"e": rng().random((4, 200))}).shape == (4, 8)


def test_statistics_are_what_their_names_say() -> None:
    pixels = images(1)
    found = _row(pixels)
    assert found["image.mean"] == pytest.approx(pixels.mean(), rel=1e-6)
    assert found["image.std"] == pytest.approx(pixels.std(), rel=1e-6)
    assert found["image.min"] == pixels.min()
    assert found["image.max"] == pixels.max()
    assert found["image.p05"] <= found["image.p50"] <= found["image.p95"]


def test_blur_lowers_the_edges_and_noise_raises_them() -> None:
    smooth = np.tile(np.linspace(0, 1, 8, dtype=np.float32), (1, 1, 8, 1))
    noisy = smooth + rng().normal(0, 0.2, smooth.shape).astype(np.float32)
    assert _row(smooth)["image.edge"] < _row(noisy)["image.edge"]
    assert _row(np.ones_like(smooth))["image.edge"] == 0.0


def test_the_centre_follows_what_moves() -> None:
    pixels = np.zeros((1, 1, 8, 8), np.float32)
    pixels[0, 0, 7, 0] = 1.0
    found = _row(pixels)
    assert found["image.centre-row"] == pytest.approx(1.0)
    assert found["image.centre-column"] == pytest.approx(-1.0)
    assert _row(np.zeros_like(pixels))["image.centre-row"] == 0.0


def test_channels_are_left_out_of_the_plane_in_either_layout() -> None:
    pixels = rng().random((1, 3, 20, 30), dtype=np.float32)
    first = TensorSpec(name="x", dtype="float32", shape=[-1, 3, 20, 30])
    last = TensorSpec(name="x", dtype="float32", shape=[-1, 20, 30, 3])
    one, other = _row(pixels, first), _row(pixels.transpose(0, 2, 3, 1), last)
    assert one == pytest.approx(other, rel=1e-9, abs=1e-12)


def test_audio_frames_are_watched_like_scans() -> None:
    assert len(feature_names([AUDIO])) == 10
    assert np.isfinite(feature_rows([AUDIO], {"a": rng().random((2, 49, 10, 1))})).all()


def test_quantised_inputs_are_watched_in_real_units() -> None:
    spec = TensorSpec(name="x", dtype="int8", shape=[-1, 2], quantisation=Quantisation(0.5, 10))
    found = feature_rows([spec], {"x": np.array([[10, 12]], np.int8)})
    assert found.tolist() == [[0.0, 1.0]]


def test_bytes_do_not_wrap_around() -> None:
    spec = TensorSpec(name="x", dtype="uint8", shape=[-1, 4, 4])
    checks = np.indices((4, 4)).sum(axis=0) % 2 * 255
    assert _row(checks[None].astype(np.uint8), spec)["x.edge"] == 510.0


def test_a_row_counts_the_same_alone_as_in_a_batch() -> None:
    batch = images(50)
    together = feature_rows([IMAGE], {"image": batch})
    alone = [feature_rows([IMAGE], {"image": batch[i : i + 1]})[0] for i in range(50)]
    np.testing.assert_allclose(together, np.stack(alone), rtol=1e-12)


def test_one_nan_makes_a_scan_missing_and_leaves_the_others() -> None:
    batch = images(3)
    batch[1, 0, 4, 4] = np.nan
    found = feature_rows([IMAGE], {"image": batch})
    assert np.isnan(found[1]).all()
    assert np.isfinite(found[[0, 2]]).all()


def test_one_nan_in_a_table_is_missing_alone() -> None:
    found = feature_rows([TABLE], {"t": np.array([[1.0, np.nan, 3.0]], np.float32)})
    assert np.isnan(found).tolist() == [[False, True, False]]


def test_large_inputs_are_ranked_in_part() -> None:
    spec = TensorSpec(name="x", dtype="float32", shape=[-1, 3, 200, 200])
    pixels = rng().random((1, 3, 200, 200), dtype=np.float32)
    assert _row(pixels, spec)["x.p50"] == pytest.approx(np.median(pixels), abs=0.05)


def test_inputs_that_are_not_rows_are_not_watched() -> None:
    threshold = TensorSpec(name="threshold", dtype="float32", shape=[1])
    assert watched([IMAGE, threshold]) == [IMAGE]
    assert feature_rows([IMAGE, threshold], {"image": images(2)}).shape == (2, 10)


def test_features_beyond_the_reports_limit_are_dropped() -> None:
    specs = [TensorSpec(name=f"t{i}", dtype="float32", shape=[-1, 64]) for i in range(5)]
    tensors = {spec.name: rng().random((2, 64)) for spec in specs}
    assert len(feature_names(specs)) == MAX_FEATURES
    assert feature_rows(specs, tensors).shape == (2, MAX_FEATURES)


def test_inputs_of_different_lengths_are_refused() -> None:
    with pytest.raises(InvalidInput, match="different numbers"):
        feature_rows([TABLE, EMBEDDING], {"t": np.zeros((2, 3)), "e": np.zeros((3, 200))})


@pytest.mark.parametrize("tensors", [{}, {"t": np.zeros(3)}, {"t": np.zeros((2, 4))}])
def test_tensors_of_another_form_are_refused(tensors: dict[str, Array]) -> None:
    with pytest.raises(InvalidInput, match="'t'"):
        feature_rows([TABLE], tensors)


@settings(max_examples=80, deadline=None)
@given(
    hnp.arrays(
        st.sampled_from([np.float32, np.float16, np.int8, np.uint8, np.bool_]),
        st.tuples(st.integers(0, 4), st.integers(1, 3), st.integers(1, 6), st.integers(1, 6)),
    )
)
def test_any_batch_has_its_statistics(batch: Array) -> None:
    spec = TensorSpec(name="x", dtype="float32", shape=[-1, *batch.shape[1:]])
    found = feature_rows([spec], {"x": batch})
    finite = np.isfinite(batch.astype(np.float64)).all(axis=(1, 2, 3))
    assert found.shape == (len(batch), 10)
    assert (np.isfinite(found).all(axis=1) == finite).all()
