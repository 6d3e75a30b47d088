"""One WAV file -> mono floats of -1..1, through the standard library: 8, 16, 24 or 32-bit PCM.

Mixes nothing down and resamples nothing: a device would have to do the same.
"""

from __future__ import annotations

import struct
import wave
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from converter.errors import SamplesUnreadable
from model.preprocessing import Sound


def read_wave(path: Path, frames: int) -> Sound:
    """At most the first `frames` of the file; raises `SamplesUnreadable`."""
    try:
        with wave.open(str(path), "rb") as opened:
            channels, width = opened.getnchannels(), opened.getsampwidth()
            rate, promised = opened.getframerate(), opened.getnframes()
            data = opened.readframes(min(frames, promised))
    except (wave.Error, EOFError, struct.error, OSError, ValueError, RuntimeError) as error:
        raise SamplesUnreadable(
            f"{path}: not a WAV file of PCM sound ({str(error)[:80] or 'it ends early'}); save it"
            " again or remove it"
        ) from error
    if channels != 1:
        raise SamplesUnreadable(f"{path}: {channels} channels; mix it down to one")
    if not promised or len(data) < min(frames, promised) * width:
        raise SamplesUnreadable(
            f"{path}: {len(data) // max(width, 1)} of {promised} frames are there; the file is"
            " empty or truncated, remove it"
        )
    return Sound(_floats(path, data, width), rate)


def _floats(path: Path, data: bytes, width: int) -> NDArray[Any]:
    if width == 1:
        return (np.frombuffer(data, np.uint8).astype(np.float32) - 128) / 128
    if width == 2:
        return np.frombuffer(data, "<i2").astype(np.float32) / (1 << 15)
    if width == 3:
        padded = np.zeros((len(data) // 3, 4), np.uint8)
        padded[:, 1:] = np.frombuffer(data, np.uint8).reshape(-1, 3)
        return padded.reshape(-1).view("<i4").astype(np.float32) / (1 << 31)
    if width == 4:
        return np.frombuffer(data, "<i4").astype(np.float32) / (1 << 31)
    raise SamplesUnreadable(f"{path}: {8 * width}-bit sound; save it as 16-bit PCM")
