"""Measurements that docs/benchmarks.md quotes: each prints its figures beside the raw tool's."""
