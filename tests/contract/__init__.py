"""Tests of what the programs say to each other."""

from __future__ import annotations
