"""The runtimes that execute a variant, behind one protocol; each is imported only when used."""

from __future__ import annotations

from model.runtimes.choice import installed_runtimes, open_session, preload_runtime
from model.runtimes.session import Session

__all__ = ["Session", "installed_runtimes", "open_session", "preload_runtime"]
