"""The front door: one command line over the converter, the device and the hub, and the demo.

The only room that may import all the others, and each command imports only what it needs: a device
has no converter installed, a workstation no hub.
"""

from __future__ import annotations

from model.telemetry import keep_runtimes_silent

__version__ = "0.1.0"

# Before any command looks whether onnxruntime is installed, which imports it.
keep_runtimes_silent()
