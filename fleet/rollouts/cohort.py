"""The order of a rollout's devices, and how many of them each wave reaches. Pure.

The order depends on the rollout and the device alone: adding a device never moves the others
relative to each other, and each rollout has other canaries.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from hashlib import sha256

from fleet.rollouts.errors import InvalidRollout

MAX_WAVES = 20
_WAVE = re.compile(r"^(\d{1,7})(?:\.(\d{1,3}))?(%?)\Z")
_WHOLE = 100_000
"""A hundred percent, in thousandths of a percent."""


@dataclass(frozen=True)
class Wave:
    """How far a wave reaches into the cohort, cumulatively."""

    amount: int
    """Devices, or thousandths of a percent."""
    percent: bool
    text: str

    def reaches(self, devices: int) -> int:
        """Of a cohort of `devices`, so many; a percentage is rounded up."""
        if self.percent:
            return -(-devices * self.amount // _WHOLE)
        return min(self.amount, devices)


def order(rollout: str, devices: Iterable[str]) -> list[str]:
    """The devices by SHA-256 of rollout and device."""
    return sorted(devices, key=lambda device: sha256(f"{rollout}/{device}".encode()).digest())


def parse_waves(texts: Sequence[str]) -> tuple[Wave, ...]:
    """`["5%", "25%", "100%"]` or `["1", "3", "6"]`; raises `InvalidRollout`."""
    if not 1 <= len(texts) <= MAX_WAVES:
        raise InvalidRollout(f"{len(texts)} waves; give 1 to {MAX_WAVES}")
    waves = tuple(_parse(text) for text in texts)
    for before, wave in itertools.pairwise(waves):
        if before.percent == wave.percent and wave.amount <= before.amount:
            raise InvalidRollout(
                f"waves are cumulative, so each is larger than the one before: {wave.text} comes"
                f" after {before.text}"
            )
    return waves


def sizes(waves: Sequence[Wave], devices: int) -> list[int]:
    """How many devices have been reached after each wave; waves that add none are left out."""
    found: list[int] = []
    for wave in waves:
        reached = wave.reaches(devices)
        if reached > (found[-1] if found else 0):
            found.append(reached)
    return found


def wave_of(position: int, cumulative: Sequence[int]) -> int:
    """The wave that reaches the device at `position`; `len(cumulative)` when none does."""
    return next((k for k, size in enumerate(cumulative) if position < size), len(cumulative))


def _parse(text: str) -> Wave:
    match = _WAVE.match(text.strip())
    if match is None:
        raise InvalidRollout(f"wave {text[:40]!r} is neither a percentage nor a number of devices")
    whole, fraction, percent = match.groups()
    if percent:
        amount = int(whole) * 1_000 + int((fraction or "0").ljust(3, "0"))
        if not 0 < amount <= _WHOLE:
            raise InvalidRollout(
                f"wave {text[:40]!r}: a percentage lies above 0 and at most at 100"
            )
        return Wave(amount, True, text.strip())
    if fraction or int(whole) == 0:
        raise InvalidRollout(f"wave {text[:40]!r}: a number of devices is a whole one, from 1 on")
    return Wave(int(whole), False, text.strip())
