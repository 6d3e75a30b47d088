"""Tests of the runtimes, with the runtimes."""

from __future__ import annotations
