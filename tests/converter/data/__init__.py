"""Tests of converter.data: real files of each kind, and each way in which they go bad."""
