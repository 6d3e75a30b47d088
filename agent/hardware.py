"""What this device is: what the choice of a variant and the hub's selectors need to know.

Reads the system's own files; whatever cannot be read is simply not named.
"""

from __future__ import annotations

import os
import platform
from pathlib import Path

import psutil

from contract.messages import Hardware
from model.runtimes import installed_runtimes

_MODEL_FILES = (
    Path("/proc/device-tree/model"),
    Path("/sys/devices/virtual/dmi/id/product_name"),
)
_ACCELERATORS = {
    "/dev/nvidia0": "cuda",
    "/dev/nvhost-gpu": "cuda",  # Jetson
    "/dev/nvhost-ctrl-gpu": "cuda",
    "/dev/apex_0": "edgetpu",
    "/dev/hailo0": "hailo",
}
_MAX_MODEL_CHARS = 120


def read_hardware(device_class: str) -> Hardware:
    """As of now; runtimes are those that are installed, not those that were ever loaded."""
    return Hardware(
        machine=platform.machine() or "unknown",
        model=_model(),
        device_class=device_class,
        cpus=os.cpu_count() or 1,
        memory_bytes=psutil.virtual_memory().total,
        accelerators=sorted({name for path, name in _ACCELERATORS.items() if Path(path).exists()}),
        runtimes=installed_runtimes(),
    )


def _model() -> str:
    for path in _MODEL_FILES:
        try:
            with path.open("rb") as file:
                text = file.read(4 * _MAX_MODEL_CHARS).decode("utf-8", "replace")
        except OSError:
            continue
        text = "".join(c for c in text if c.isprintable()).strip()
        if text:
            return text[:_MAX_MODEL_CHARS]
    return ""
