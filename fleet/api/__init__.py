"""The hub's REST API (docs/api.md): translates between HTTP and the fleet, and decides nothing."""

from __future__ import annotations

from fleet.api.app import create_app

__all__ = ["create_app"]
