"""When something was seen, so that the hub can order it whatever the device's clock did.

`boot` and `mono_ms` come from the kernel, which no clock setting can disturb; the clock counts as
trusted once it stands at or above the floor that signed metadata has proven.
"""

from __future__ import annotations

import re
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from contract.messages import Stamp

BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
Clock = Callable[[], int]
"""UTC milliseconds."""


def wall_clock_ms() -> int:
    """The system's clock; never below zero, which no message could carry."""
    return max(0, time.time_ns() // 1_000_000)


def monotonic_ms() -> int:
    """Milliseconds since the kernel's start, sleep included where the kernel can tell."""
    clock = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
    return time.clock_gettime_ns(clock) // 1_000_000


def kernel_boot(path: Path = BOOT_ID) -> str:
    """The kernel's id of this boot, 32 hex digits; a random one where it has none."""
    try:
        text = path.read_text(encoding="ascii").strip().replace("-", "")
    except (OSError, ValueError):
        text = ""
    return text if re.fullmatch(r"[0-9a-f]{32}", text) else uuid.uuid4().hex


@dataclass(frozen=True)
class Stamper:
    """Makes stamps for one boot. `floor_ms` is asked each time: it grows."""

    boot: str
    clock: Clock
    floor_ms: Callable[[], int]
    monotonic_ms: Callable[[], int] = monotonic_ms

    def now(self) -> Stamp:
        """The stamp of this moment."""
        at_ms = self.clock()
        trusted = at_ms >= self.floor_ms()
        return Stamp(self.boot, self.monotonic_ms(), at_ms, trusted)
