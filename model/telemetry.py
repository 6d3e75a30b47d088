"""Keeps runtimes from reporting to their makers: what runs on a device is nobody else's business.

onnxruntime's builds collect usage events in the user's cache folder and look up a host of their
maker's to send them to, from 1.24 on also on Linux. Only this variable, set before the package is
imported, keeps it from both; its `disable_telemetry_events()` comes too late. Whoever has set the
variable already has decided for themselves.
"""

from __future__ import annotations

import os


def keep_runtimes_silent() -> None:
    """Call before `import onnxruntime`; harmless when called again, and for child processes."""
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # noqa: TID251 - written for a library
