"""Sound -> a keyword network's input: log-mel energies or MFCCs. Pure numpy, no state.

The formulas are those of `tf.signal`, by which MLPerf Tiny's and most small audio networks were
trained:

- frames of `frame_length` every `frame_step`, times a periodic Hann window,
  0.5 - 0.5 cos(2 pi n / frame_length) (Oppenheim and Schafer, Discrete-Time Signal Processing);
- magnitude of the FFT over the next power of two (`tf.signal.stft`);
- triangles evenly spread on the HTK mel scale, 1127 ln(1 + f / 700), without the DC bin (Young et
  al., The HTK Book, 5.4; `tf.signal.linear_to_mel_weight_matrix`);
- ln(energy + floor);
- MFCC k = sqrt(2 / M) sum_m x_m cos(pi k (m + 1/2) / M), the DCT-II as in HTK
  (`tf.signal.mfccs_from_log_mel_spectrograms`).
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from contract.processing import AudioInput
from model.errors import InvalidInput
from model.tensors import Array


def prepare_sound(recipe: AudioInput, signal: Array, sample_rate: int) -> Array:
    """float [n], mono, -1..1, at `sample_rate` -> float32 of `shape_of(recipe)`.

    Raises `InvalidInput`; sound of another rate is refused, never resampled.
    """
    if sample_rate != recipe.sample_rate:
        raise InvalidInput(
            f"input {recipe.input!r}: sound at {sample_rate} Hz; must be {recipe.sample_rate} Hz,"
            " resample it"
        )
    if signal.ndim != 1 or signal.dtype.kind != "f" or not signal.size:
        raise InvalidInput(
            f"input {recipe.input!r}: sound is {signal.dtype} of shape {list(signal.shape)}; give"
            " floats of -1..1, one dimension"
        )
    if not np.isfinite(signal).all():
        raise InvalidInput(f"input {recipe.input!r}: the sound has NaN or Inf")
    features = log_mel(recipe, _clip(recipe, signal))
    if recipe.features == "mfcc":
        features = features @ _cosines(recipe.mel_bins, recipe.coefficients)
    features = (features - recipe.mean) / recipe.std
    if recipe.channel_axis:
        features = features[..., np.newaxis]
    return np.ascontiguousarray(features, dtype=np.float32)


def log_mel(recipe: AudioInput, clip: Array) -> Array:
    """float64 [frames, mel_bins] of a clip of the right length."""
    starts = np.arange(0, recipe.clip_length - recipe.frame_length + 1, recipe.frame_step)
    frames = clip[starts[:, np.newaxis] + np.arange(recipe.frame_length)]
    turn = 2 * np.pi * np.arange(recipe.frame_length) / recipe.frame_length
    size = 1 << (recipe.frame_length - 1).bit_length()
    magnitude = np.abs(np.fft.rfft(frames * (0.5 - 0.5 * np.cos(turn)), size, axis=1))
    bank = _mel_bank(
        recipe.mel_bins, size // 2 + 1, recipe.sample_rate, recipe.low_hz, recipe.high_hz
    )
    found: Array = np.log(magnitude @ bank + recipe.floor)
    return found


def _clip(recipe: AudioInput, signal: Array) -> Array:
    clip = np.zeros(recipe.clip_length)
    part = signal[: recipe.clip_length].astype(np.float64)
    clip[: len(part)] = part
    largest = float(np.abs(clip).max())
    return clip / largest if recipe.normalise and largest > 0 else clip


@lru_cache(maxsize=8)
def _mel_bank(bins: int, spectrum: int, rate: int, low_hz: float, high_hz: float) -> Array:
    """[spectrum, bins]: triangles whose feet are their neighbours' tops."""
    place = _mel(np.linspace(0.0, rate / 2, spectrum))[:, np.newaxis]
    edges = np.linspace(_mel(np.array(low_hz)), _mel(np.array(high_hz)), bins + 2)
    left, top, right = edges[:-2], edges[1:-1], edges[2:]
    bank: Array = np.maximum(
        0.0, np.minimum((place - left) / (top - left), (right - place) / (right - top))
    )
    bank[0] = 0.0
    return bank


def _mel(hz: Array) -> Array:
    found: Array = 1127.0 * np.log1p(hz / 700.0)
    return found


@lru_cache(maxsize=8)
def _cosines(bins: int, kept: int) -> Array:
    """[bins, kept] of the DCT-II."""
    angle = np.pi * np.outer(np.arange(bins) + 0.5, np.arange(kept)) / bins
    found: Array = np.cos(angle) * np.sqrt(2.0 / bins)
    return found
