"""Tests of the command line and the demo."""

from __future__ import annotations
