"""ONNX through onnx2tf's own environment, run by `make test-heavy` where a Python 3.12 is found."""
