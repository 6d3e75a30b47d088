"""The tests, laid out like the source."""

from __future__ import annotations
