"""Tests of the converter, one file for each of its modules."""
