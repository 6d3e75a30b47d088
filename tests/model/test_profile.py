"""The reference profile: the same data gives the same bytes, and decoding checks everything."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contract.manifest import TensorSpec
from model.errors import MalformedProfile
from model.features import feature_names
from model.profile import (
    MAX_PROFILE_BYTES,
    ReferenceProfile,
    build_profile,
    class_spec,
    decode_profile,
    encode_profile,
)
from model.tensors import Array
from tests.model.builders import IMAGE, SCORES, images, rng

SCANS = images(300)
LOGITS = rng(1).normal(0, 2, (300, 10)).astype(np.float32)
LABELS = np.where(np.arange(300) < 270, LOGITS.argmax(axis=1), (LOGITS.argmax(axis=1) + 1) % 10)


def _profile(
    scans: Array = SCANS, logits: Array = LOGITS, labels: Array | None = None
) -> ReferenceProfile:
    inputs, outputs = {"image": scans}, {"scores": logits}
    return build_profile("onnx-int8", [IMAGE], [SCORES], inputs, outputs, 10, labels)


PROFILE = _profile()
ENCODED = encode_profile(PROFILE)


def test_a_profile_comes_back() -> None:
    assert decode_profile(ENCODED) == PROFILE
    assert encode_profile(decode_profile(ENCODED)) == ENCODED


def test_equal_data_gives_equal_bytes() -> None:
    assert encode_profile(_profile(SCANS.copy(), LOGITS.copy())) == ENCODED


def test_every_feature_has_sixteen_equiprobable_bins() -> None:
    assert sorted(PROFILE.features) == sorted(feature_names([IMAGE]))
    for binning in PROFILE.features.values():
        assert len(binning.edges) == 15
        assert binning.n == 300
        assert set(binning.bins) <= {18, 19}


def test_the_range_is_that_of_the_calibration_data() -> None:
    found = PROFILE.ranges["image"]
    assert (found.low, found.high) == (SCANS.min(), SCANS.max())


def test_classes_confidence_and_entropy_are_counted() -> None:
    classes = PROFILE.classes
    assert classes is not None
    assert classes.counts == np.bincount(LOGITS.argmax(axis=1), minlength=10).tolist()
    assert classes.softmax
    assert len(classes.confidence.bins) == 17
    assert set(classes.confidence.bins) <= {17, 18}
    assert len(classes.entropy.bins) == 16
    assert (classes.confidence.low, classes.confidence.high) == (0.0, 1.0)
    assert classes.entropy.high == pytest.approx(np.log(10))
    assert class_spec(PROFILE) == SCORES


def test_with_labels_one_confidence_edge_is_the_atc_threshold() -> None:
    classes = _profile(labels=LABELS).classes
    assert classes is not None
    threshold = classes.atc_threshold
    assert threshold is not None
    assert classes.confidence.edges.count(threshold) == 1
    assert len(classes.confidence.bins) == 17
    below = classes.confidence.bins[: classes.confidence.edges.index(threshold) + 1]
    # 30 of 300 answers are wrong, so 30 confidences lie below.
    assert sum(below) == 30


@pytest.mark.parametrize(("wrong", "below"), [(0, 0), (300, 300)])
def test_the_atc_threshold_exists_for_perfect_and_hopeless_models(wrong: int, below: int) -> None:
    answers = LOGITS.argmax(axis=1)
    labels = np.where(np.arange(300) < wrong, (answers + 1) % 10, answers)
    profile = _profile(labels=labels)
    assert decode_profile(encode_profile(profile)) == profile
    assert profile.classes is not None
    index = profile.classes.confidence.edges.index(profile.classes.atc_threshold or 0.0)
    assert sum(profile.classes.confidence.bins[: index + 1]) == below


def test_probabilities_are_not_softened_again() -> None:
    weights = np.exp(LOGITS)
    classes = _profile(logits=weights / weights.sum(axis=1, keepdims=True)).classes
    assert classes is not None
    assert not classes.softmax


def test_a_regression_model_has_no_classes() -> None:
    value = TensorSpec(name="value", dtype="float32", shape=[-1, 1])
    profile = build_profile("a", [IMAGE], [value], {"image": SCANS}, {"value": LOGITS[:, :1]})
    assert profile.classes is None
    assert decode_profile(encode_profile(profile)) == profile


def test_missing_values_are_counted_as_missing() -> None:
    scans, logits = SCANS.copy(), LOGITS.copy()
    scans[:5, 0, 0, 0] = np.nan
    logits[:3, 0] = np.inf
    profile = _profile(scans, logits)
    assert {b.missing for b in profile.features.values()} == {5}
    assert profile.classes is not None
    assert profile.classes.confidence.missing == 3
    assert sum(profile.classes.counts) == 297
    assert decode_profile(encode_profile(profile)) == profile


@pytest.mark.parametrize(
    ("inputs", "outputs", "labels"),
    [
        ({}, {"scores": LOGITS}, None),
        ({"image": SCANS[:0]}, {"scores": LOGITS[:0]}, None),
        ({"image": SCANS[:, 0]}, {"scores": LOGITS}, None),
        ({"image": SCANS}, {}, None),
        ({"image": SCANS}, {"scores": LOGITS[:, :9]}, None),
        ({"image": SCANS}, {"scores": LOGITS}, LABELS[:7]),
    ],
)
def test_samples_that_do_not_fit_are_refused(
    inputs: dict[str, Array], outputs: dict[str, Array], labels: Array | None
) -> None:
    with pytest.raises(MalformedProfile, match="do not fit"):
        build_profile("a", [IMAGE], [SCORES], inputs, outputs, 10, labels)


Change = Callable[[dict[str, Any]], object]


@pytest.mark.parametrize(
    "change",
    [
        lambda p: p.update(schema=2),
        lambda p: p.update(variant="NOT AN ID"),
        lambda p: p.update(inputs=[]),
        lambda p: p["features"].pop("image.mean"),
        lambda p: p["features"].update(extra=p["features"]["image.mean"]),
        lambda p: p["features"]["image.mean"]["edges"].reverse(),
        lambda p: p["features"]["image.mean"]["bins"].append(0),
        lambda p: p["classes"].update(output="other"),
        lambda p: p["classes"]["counts"].append(0),
        lambda p: p["classes"]["counts"].__setitem__(0, -1),
        lambda p: p["classes"]["counts"].__setitem__(0, 1 << 60),
        lambda p: p["classes"]["confidence"]["edges"].pop(),
        lambda p: p["classes"]["entropy"].update(n=1),
        lambda p: p["outputs"][0].update(shape=[10]),
    ],
)
def test_a_profile_that_contradicts_itself_is_malformed(change: Change) -> None:
    raw = msgspec.json.decode(ENCODED)
    change(raw)
    with pytest.raises(MalformedProfile):
        decode_profile(msgspec.json.encode(raw))


def test_a_profile_that_is_too_long_is_not_parsed() -> None:
    with pytest.raises(MalformedProfile, match="at most"):
        decode_profile(b" " * (MAX_PROFILE_BYTES + 1))


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=40), st.integers(0, len(ENCODED)))
def test_no_bytes_raise_anything_but_malformed_profile(junk: bytes, place: int) -> None:
    for data in (junk, ENCODED[:place] + junk + ENCODED[place + len(junk) :]):
        try:
            decode_profile(data)
        except MalformedProfile:
            continue


def test_deeply_nested_json_is_malformed() -> None:
    with pytest.raises(MalformedProfile):
        decode_profile(b"[" * 100_000)
