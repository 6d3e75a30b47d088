"""What this device is: what the choice of a variant and the hub's selectors need to know.

Reads the system's own files; whatever cannot be read is simply not named.
"""

from __future__ import annotations

import os
import platform
import socket
from pathlib import Path

import psutil

from contract.enrolment import Claims
from contract.messages import Hardware
from model.runtimes import installed_runtimes

_MODEL_FILES = (
    Path("/proc/device-tree/model"),
    Path("/sys/devices/virtual/dmi/id/product_name"),
)
_SERIAL_FILES = (
    Path("/proc/device-tree/serial-number"),
    Path("/sys/devices/virtual/dmi/id/product_serial"),  # for root alone
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
        model=_first_of(_MODEL_FILES),
        device_class=device_class,
        cpus=os.cpu_count() or 1,
        memory_bytes=psutil.virtual_memory().total,
        accelerators=sorted({name for path, name in _ACCELERATORS.items() if Path(path).exists()}),
        runtimes=installed_runtimes(),
    )


def read_claims() -> Claims:
    """What an operator may compare with the label on the case."""
    host = "".join(c for c in socket.gethostname() if c.isprintable())
    return Claims(
        host=host[:_MAX_MODEL_CHARS], model=_first_of(_MODEL_FILES), serial=_first_of(_SERIAL_FILES)
    )


def _first_of(files: tuple[Path, ...]) -> str:
    for path in files:
        try:
            with path.open("rb") as file:
                text = file.read(4 * _MAX_MODEL_CHARS).decode("utf-8", "replace")
        except OSError:
            continue
        text = "".join(c for c in text if c.isprintable()).strip()
        if text:
            return text[:_MAX_MODEL_CHARS]
    return ""
