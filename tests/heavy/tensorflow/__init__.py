"""TensorFlow's formats through the converter: run by `make test-heavy`, skipped elsewhere."""
