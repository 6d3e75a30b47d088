"""Tests that need TensorFlow or torch; `make test-heavy` runs each in its own environment."""
