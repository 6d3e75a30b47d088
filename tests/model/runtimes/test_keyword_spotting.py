"""MLPerf Tiny's keyword models, when OUTRIDER_KWS_DATA names the folder that holds them.

The data is not part of the project; without it these tests say so and are skipped.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from contract.manifest import Quantisation, TensorSpec
from model.drift import DriftCounter, class_shares, out_of_range_share
from model.golden import GoldenSamples, run_golden
from model.profile import build_profile, decode_profile, encode_profile
from model.runtimes import Session, open_session
from model.tensors import Array
from tests.model.builders import variant

DATA = Path(os.environ.get("OUTRIDER_KWS_DATA", "/nonexistent"))
pytestmark = pytest.mark.skipif(
    not DATA.is_dir(), reason="OUTRIDER_KWS_DATA does not name a folder"
)
SCALE = Quantisation(0.5847029089927673, 83)
INT8_INPUT = TensorSpec(name="input_1", dtype="int8", shape=[-1, 49, 10, 1], quantisation=SCALE)
INT8_OUTPUT = TensorSpec(
    name="Identity", dtype="int8", shape=[-1, 12], quantisation=Quantisation(0.00390625, -128)
)
FLOAT_INPUT = TensorSpec(name="input_1", dtype="float32", shape=[-1, 49, 10, 1])
FLOAT_OUTPUT = TensorSpec(name="dense", dtype="float32", shape=[-1, 12])


def _samples() -> tuple[Array, Array]:
    with np.load(DATA / "samples.npz", allow_pickle=False) as found:
        return found["features_int8"][..., None], found["labels"]


def _int8() -> Session:
    described = variant("litert", [INT8_INPUT], [INT8_OUTPUT], name="tflite-int8")
    return open_session(described, DATA / "official_int8.tflite")


def _float() -> Session:
    return open_session(
        variant(inputs=[FLOAT_INPUT], outputs=[FLOAT_OUTPUT]), DATA / "float32.onnx"
    )


def _floats(q: Array) -> Array:
    found: Array = (q.astype(np.float32) - SCALE.zero_point) * np.float32(SCALE.scale)
    return found


def test_the_int8_model_reaches_its_known_accuracy() -> None:
    features, labels = _samples()
    answers = _int8().infer({"input_1": features})["Identity"]
    assert (answers.argmax(axis=1) == labels).mean() == pytest.approx(0.902, abs=0.003)


def test_the_float_model_reaches_its_known_accuracy() -> None:
    features, labels = _samples()
    answers = _float().infer({"input_1": _floats(features)})["dense"]
    assert (answers.argmax(axis=1) == labels).mean() == pytest.approx(0.913, abs=0.002)


def test_floats_and_their_quantised_form_get_the_same_answers() -> None:
    features, _ = _samples()
    session = _int8()
    quantised = session.infer({"input_1": features[:50]})["Identity"]
    floats = session.infer({"input_1": _floats(features[:50])})["Identity"]
    np.testing.assert_array_equal(quantised, floats)


def test_golden_samples_recorded_in_a_batch_pass_one_by_one() -> None:
    features, _ = _samples()
    session = _int8()
    golden = GoldenSamples(
        {"input_1": features[:32]}, session.infer({"input_1": features[:32]}), 0.1, 0.9
    )
    assert run_golden(session, golden).passed


def test_the_profile_of_real_audio_fits_other_real_audio() -> None:
    features, labels = _samples()
    answers = _int8().infer({"input_1": features})["Identity"]
    profile = build_profile(
        "tflite-int8",
        [INT8_INPUT],
        [INT8_OUTPUT],
        {"input_1": features[:400]},
        {"Identity": answers[:400]},
        12,
        labels[:400],
    )
    assert decode_profile(encode_profile(profile)) == profile
    assert profile.classes is not None
    assert not profile.classes.softmax
    live, quiet = (DriftCounter(profile, "a" * 64, "b" * 64) for _ in range(2))
    for i in range(400, 1000):
        live.count({"input_1": features[i : i + 1]}, {"Identity": answers[i : i + 1]})
        quiet.count({"input_1": features[i : i + 1] // 8}, {"Identity": answers[i : i + 1]})
    assert out_of_range_share(live.window()) < 0.05
    assert out_of_range_share(quiet.window()) > 0.5
    assert max(class_shares(live.window())) < 0.3
