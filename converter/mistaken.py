"""What a file is that was given as ONNX and is none: a cut copy, a pointer, a page, another format.

Guesses by the first bytes and the file's name, for a message; decides nothing.
"""

from __future__ import annotations

from pathlib import Path

_OTHER_FORMATS = {
    ".tflite": "a TensorFlow Lite model",
    ".pb": "a TensorFlow model",
    ".h5": "a Keras model",
    ".keras": "a Keras model",
    ".pt": "a PyTorch checkpoint",
    ".pth": "a PyTorch checkpoint",
    ".safetensors": "a file of bare weights",
}
_HEAD = 256
_GIT_LFS = b"version https://git-lfs"
POINTER = "a Git LFS pointer, not the model itself; fetch the model with: git lfs pull"
_PAGES = (b"<!doctype", b"<html", b"<?xml")
_IR_VERSION = b"\x08"


def is_pointer(start: bytes) -> bool:
    """Whether a file that starts so stands for one that Git LFS keeps elsewhere."""
    return start.startswith(_GIT_LFS)


def what_instead(path: Path, data: bytes) -> str:
    """What the file seems to hold where ONNX was expected, and what to do."""
    start = data[:_HEAD].lstrip()
    if is_pointer(start):
        return POINTER
    if start.lower().startswith(_PAGES):
        return "a web page, not a model; download the file itself"
    known = _OTHER_FORMATS.get(path.suffix.lower())
    if known:
        return f"not an ONNX model; this looks like {known}; export it to ONNX first"
    # An ONNX file opens with field 1, its version: a number below 128.
    if len(data) > 1 and data[:1] == _IR_VERSION and 0 < data[1] < 128:
        return "a truncated or damaged ONNX model; copy or export it again"
    return "not an ONNX model, or a damaged one; export it to ONNX, or copy it again"
