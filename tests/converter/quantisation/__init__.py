"""Tests of converter.quantisation."""
