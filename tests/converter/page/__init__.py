"""Tests of the report's page."""

from __future__ import annotations
