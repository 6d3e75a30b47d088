"""Tests of converter.tflite, over models built here without TensorFlow."""
