"""The reference profile is of the calibration samples and of the artifact's answers to them."""

from __future__ import annotations

import numpy as np
import pytest

from contract.manifest import TensorSpec
from converter.evidence.reference import profile_bytes
from converter.samples import Samples
from model.errors import MalformedProfile
from model.profile import decode_profile
from tests.converter import models

IMAGE = TensorSpec(name="image", dtype="float32", shape=[-1, 1, 8, 8])
SCORES = TensorSpec(name="y", dtype="float32", shape=[-1, 3])
ANSWERS = {"y": np.eye(3, dtype=np.float32)[np.arange(30) % 3]}


def made(labels: models.Array | None = None) -> bytes:
    calibration = Samples("calib.npz", {"image": models.images(30)}, labels)
    return profile_bytes("onnx-int8", calibration, ANSWERS, [IMAGE], [SCORES], 3)


def test_inputs_and_answers_are_counted() -> None:
    profile = decode_profile(made())
    assert (profile.variant, profile.samples) == ("onnx-int8", 30)
    assert profile.ranges["image"].low == pytest.approx(float(models.images(30).min()))
    assert profile.classes is not None
    assert profile.classes.counts == [10, 10, 10]
    assert profile.classes.atc_threshold is None


def test_labels_give_the_confidence_threshold() -> None:
    profile = decode_profile(made(np.arange(30) % 3))
    assert profile.classes is not None
    assert profile.classes.atc_threshold is not None


def test_equal_samples_give_equal_bytes() -> None:
    assert made() == made()


def test_answers_that_do_not_fit_are_refused() -> None:
    calibration = Samples("calib.npz", {"other": models.images(30)})
    with pytest.raises(MalformedProfile):
        profile_bytes("onnx-int8", calibration, ANSWERS, [IMAGE], [SCORES], 3)
