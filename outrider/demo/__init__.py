"""The demo: the whole path once, on real parts, with every figure measured in that very run.

One hub process with its own Mosquitto and SQLite file, N agents as separate processes, real scans,
real attacks, a real power cut. Nothing here is part of the product; it only drives it, through the
same doors as an operator, a camera and an attacker.
"""

from __future__ import annotations

from outrider.demo.options import DemoOptions
from outrider.demo.play import run

__all__ = ["DemoOptions", "run"]
