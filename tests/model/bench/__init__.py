"""Tests of the measurement of bundles."""

from __future__ import annotations
