"""`open_source` and `open_model` over what needs no extra: ONNX, TFLite, and what is refused."""

from __future__ import annotations

import contextlib
from pathlib import Path

import numpy as np
import pytest

from contract.ids import digest_of
from converter import errors
from converter.convert import convert
from converter.frontends.loading import open_model, shapes_of
from converter.frontends.opening import open_source
from converter.frontends.sources import InputShape, SourceOptions
from tests.converter import models
from tests.converter.conftest import Inputs
from tests.converter.tflite import models as tflite

PLAIN = SourceOptions()


def test_an_onnx_file_passes_untouched(small: Inputs) -> None:
    made = open_model(small.model, small.calib, PLAIN)
    assert made.onnx is not None
    assert made.onnx.data == small.model.read_bytes()
    assert made.origin.digest == digest_of(made.onnx.data)
    assert made.origin.format == "onnx"


def test_a_float_tflite_file_is_checked_and_described(tmp_path: Path) -> None:
    path = tmp_path / "m.tflite"
    path.write_bytes(tflite.classifier())
    made = open_source(path, PLAIN)
    assert made.onnx is None
    assert made.tflite is not None
    assert made.tflite.inputs[0].dtype == "float32"


def test_a_truncated_tflite_file(tmp_path: Path) -> None:
    path = tmp_path / "m.tflite"
    content = tflite.classifier()
    for length in (12, len(content) // 2, len(content) - 40):
        path.write_bytes(content[:length])
        with pytest.raises(errors.ConvertError, match=r"m\.tflite"):
            open_source(path, PLAIN)


def test_noise_behind_the_identifier_never_takes_this_process_down(tmp_path: Path) -> None:
    path = tmp_path / "m.tflite"
    content = bytearray(tflite.classifier())
    draws = models.rng(5)
    for _ in range(6):
        damaged = content.copy()
        for place in draws.integers(8, len(content), 40):
            damaged[place] = int(draws.integers(0, 256))
        path.write_bytes(damaged)
        # Damage in a weight's value goes unseen, and is no damage of the file.
        with contextlib.suppress(errors.ConvertError):
            open_source(path, PLAIN)


@pytest.mark.parametrize("name", ["m.joblib", "m.pkl"])
def test_a_pickle_without_the_flag_writes_nothing(name: str, small: Inputs, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(b"\x80\x04N.")
    request = small.request(model=tmp_path / name, output=tmp_path / "x.bundle")
    with pytest.raises(errors.PickleNotTrusted):
        convert(request)
    assert not (tmp_path / "x.bundle").exists()


def test_a_missing_extra_is_one_line_that_names_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Hidden from the worker by a module of its name that cannot be imported."""
    hidden = tmp_path / "hidden"
    hidden.mkdir()
    (hidden / "tensorflow.py").write_text("raise ImportError('hidden', name='tensorflow')\n")
    monkeypatch.setenv("PYTHONPATH", str(hidden))
    folder = tmp_path / "saved"
    folder.mkdir()
    (folder / "saved_model.pb").write_bytes(b"x")
    with pytest.raises(errors.ExtraMissing, match=r"tensorflow.*outrider\[keras\]") as caught:
        open_source(folder, PLAIN)
    assert "\n" not in str(caught.value)


def test_shapes_come_from_the_headers_of_the_calibration_file(tmp_path: Path) -> None:
    path = tmp_path / "calib.npz"
    np.savez(
        path,
        image=np.zeros((7, 1, 8, 8), np.float32),
        ids=np.zeros((7, 3), np.int64),
        labels=np.zeros(7, np.int64),
        odd=np.zeros((7, 2), np.complex64),
    )
    assert shapes_of(path) == {
        "image": InputShape("float32", (1, 8, 8)),
        "ids": InputShape("int64", (3,)),
    }


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"nothing"])
def test_no_shapes_come_from_another_file(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(content)
    assert shapes_of(tmp_path / "x") == {}
    assert shapes_of(tmp_path / "absent") == {}
