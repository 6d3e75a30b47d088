"""Sound: the features that tf.signal computes, by which small audio networks were trained."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
import pytest

from contract.processing import AudioInput
from model.errors import InvalidInput
from model.sound import log_mel, prepare_sound
from model.tensors import Array

RATE = 16_000
KEYWORDS = AudioInput(
    input="x", sample_rate=RATE, clip_length=RATE, frame_length=640, frame_step=320
)
"""MLPerf Tiny's keyword spotting: 40 ms every 20 ms, 40 mel bins of 20 to 4000 Hz, 10 MFCCs."""


def sweep() -> Array:
    """A dying tone and a rising one."""
    t = np.arange(RATE) / RATE
    dying = 0.6 * np.sin(2 * np.pi * 440 * t) * np.exp(-3 * t)
    found: Array = dying + 0.3 * np.sin(2 * np.pi * (200 + 1500 * t) * t)
    return found


# TensorFlow 2.21, in float64: tf.signal.stft(sweep, 640, 320), its magnitude times
# linear_to_mel_weight_matrix(40, 513, 16000, 20.0, 4000.0), log(... + 1e-6),
# mfccs_from_log_mel_spectrograms(...)[..., :10]; frames 0, 24 and 48.
MFCC = {
    0: [-35.218, 26.8008, 3.0243, -2.7057, -6.8061, -5.8027, -3.9513, -1.253, -0.0513, 0.2197],
    24: [-31.6855, 5.9487, -8.4764, 5.5196, -11.4911, -10.8355, 4.0005, 1.925, -0.9297, 5.7059],
    48: [-44.3218, -2.1191, 12.8639, -12.5063, -7.6496, -3.4628, -2.7229, 4.6308, -1.2338, 7.6621],
}
LOG_MEL = {
    0: [-2.1081, 3.6115, -3.9836, -6.6222, -8.3628],
    24: [-6.3463, 2.1541, -5.2943, 1.8923, -5.9656],
    48: [-7.0929, 0.7142, -7.0248, -8.5152, -4.6558],
}


def recipe(**changes: Any) -> AudioInput:
    return msgspec.structs.replace(KEYWORDS, **changes)


@pytest.mark.parametrize("frame", sorted(MFCC))
def test_mfccs_are_tensorflows(frame: int) -> None:
    made = prepare_sound(KEYWORDS, sweep(), RATE)
    assert made.shape == (49, 10, 1)
    assert made.dtype == np.float32
    np.testing.assert_allclose(made[frame, :, 0], MFCC[frame], atol=2e-4)


@pytest.mark.parametrize("frame", sorted(LOG_MEL))
def test_log_mel_energies_are_tensorflows(frame: int) -> None:
    made = prepare_sound(recipe(features="log-mel", channel_axis=False), sweep(), RATE)
    assert made.shape == (49, 40)
    np.testing.assert_allclose(made[frame, ::8], LOG_MEL[frame], atol=2e-4)


def test_a_short_clip_is_padded_with_silence() -> None:
    made = prepare_sound(KEYWORDS, sweep()[:8000], RATE)
    np.testing.assert_array_equal(made[:24], prepare_sound(KEYWORDS, sweep(), RATE)[:24])
    assert np.ptp(made[-1, 1:]) < 1e-3


def test_a_long_clip_is_cut() -> None:
    long = np.concatenate([sweep(), sweep()])
    np.testing.assert_array_equal(
        prepare_sound(KEYWORDS, long, RATE), prepare_sound(KEYWORDS, sweep(), RATE)
    )


def test_a_normalised_clip_does_not_tell_how_loud_it_was() -> None:
    loud, soft = (
        prepare_sound(recipe(normalise=True), gain * sweep(), RATE) for gain in (1.0, 0.1)
    )
    np.testing.assert_allclose(loud, soft, atol=1e-5)


def test_silence_has_features_too() -> None:
    assert np.isfinite(prepare_sound(recipe(normalise=True), np.zeros(RATE), RATE)).all()


def test_mean_and_std_come_last() -> None:
    plain, scaled = (
        prepare_sound(recipe(mean=mean, std=std), sweep(), RATE)
        for mean, std in ((0.0, 1.0), (2.0, 4.0))
    )
    np.testing.assert_allclose(scaled, (plain - 2.0) / 4.0, atol=1e-6)


def test_energies_grow_with_the_sound() -> None:
    assert (log_mel(KEYWORDS, sweep()) > log_mel(KEYWORDS, 0.1 * sweep())).all()


@pytest.mark.parametrize(
    ("signal", "rate", "words"),
    [
        (sweep(), 44_100, "44100 Hz; must be 16000 Hz"),
        ((sweep() * 32_767).astype(np.int16), RATE, "int16"),
        (sweep()[np.newaxis], RATE, r"\[1, 16000\]"),
        (sweep()[:0], RATE, r"\[0\]"),
        (np.full(RATE, np.nan), RATE, "NaN"),
    ],
)
def test_what_is_no_such_sound_is_refused(signal: Array, rate: int, words: str) -> None:
    with pytest.raises(InvalidInput, match=words) as caught:
        prepare_sound(KEYWORDS, signal, rate)
    assert "'x'" in str(caught.value)
