"""Tests of what a bundle holds and how it runs."""

from __future__ import annotations
