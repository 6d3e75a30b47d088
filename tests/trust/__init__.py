"""What the tests of the three trust rooms share."""
