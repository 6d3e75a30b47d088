"""Tests of what the benchmarks measure on; the measuring itself is run by hand."""
