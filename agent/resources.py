"""What the device has left: processor, memory, disk, heat. psutil, and the board's own files.

Whatever a machine cannot tell is left out; nothing here fails.
"""

from __future__ import annotations

import os
from pathlib import Path

import psutil

from contract.messages import ResourceWindow

_PI_THROTTLED = Path("/sys/devices/platform/soc/soc:firmware/get_throttled")
_SLOWED_NOW = 0b1110
"""Raspberry Pi firmware: frequency capped, throttled, soft temperature limit; now, not once."""
_SENSORS = ("cpu_thermal", "cpu-thermal", "soc_thermal", "coretemp", "k10temp", "acpitz")


class Resources:
    """Measures from one call to the next; owned by the main loop."""

    def __init__(self, state_dir: Path) -> None:
        self._state_dir = state_dir
        self._control = psutil.Process(os.getpid())
        psutil.cpu_percent()  # the first call starts the measurement

    def window(self, server_rss_bytes: int) -> ResourceWindow:
        """Since the last call; the processor's load in percent of all cores."""
        return ResourceWindow(
            cpu_percent=psutil.cpu_percent(),
            memory_available_bytes=psutil.virtual_memory().available,
            rss_control_bytes=self._control.memory_info().rss,
            rss_server_bytes=server_rss_bytes,
            disk_free_bytes=free_bytes(self._state_dir),
            temperature_c=temperature_c(),
            throttled=is_throttled(),
            load_1m=os.getloadavg()[0],
        )


def free_bytes(path: Path) -> int:
    """What a process without privileges may still write; 0 when it cannot be told."""
    try:
        return psutil.disk_usage(str(path)).free
    except OSError:
        return 0


def temperature_c() -> float | None:
    """The hottest of the processor's sensors; None where there is none."""
    read = getattr(psutil, "sensors_temperatures", None)
    try:
        sensors = read() if read is not None else {}
    except (OSError, ValueError):
        return None
    found = [t.current for name in _SENSORS for t in sensors.get(name, []) if t.current]
    return max(found, default=None)


def is_throttled(path: Path = _PI_THROTTLED) -> bool:
    """Whether the board slows itself down right now, as far as its firmware tells."""
    try:
        return bool(int(path.read_text(encoding="ascii"), 16) & _SLOWED_NOW)
    except (OSError, ValueError):
        return False
