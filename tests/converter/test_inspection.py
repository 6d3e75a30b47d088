"""`describe` gives plain values of a bundle that it has checked whole."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from converter.convert import Converted
from converter.errors import BundleUnreadable
from converter.inspection import describe
from model.archive import with_trust


def test_a_bundle_in_plain_values(converted: Converted) -> None:
    found = describe(converted.path)
    assert json.loads(json.dumps(found)) == found
    assert (found["family"], found["version"], found["target"]) == ("digits", "1", "digits/1")
    assert found["digest"] == converted.manifest_digest
    assert found["bytes"] == converted.path.stat().st_size
    assert found["gate"]["passed"] is True
    (variant,) = found["variants"]
    assert variant["inputs"] == [{"name": "image", "dtype": "float32", "shape": ["N", 1, 8, 8]}]
    files = [variant["model"], variant["golden"], variant["profile"]]
    assert [file["path"] for file in files] == [
        "onnx-int8/model.onnx",
        "onnx-int8/golden.bin",
        "onnx-int8/profile.json",
    ]
    assert all(file["chunks"] >= 1 for file in files)
    assert variant["model"]["length"] == converted.report.figures.bytes


def test_a_fresh_bundle_is_not_signed(converted: Converted, tmp_path: Path) -> None:
    assert describe(converted.path)["signed"] is False
    signed = tmp_path / "signed.bundle"
    with_trust(converted.path, signed, {"1.digits.json": b"{}"})
    found = describe(signed)
    assert (found["signed"], found["trust"]) == (True, ["1.digits.json"])


def refused(path: Path) -> str:
    with pytest.raises(BundleUnreadable) as caught:
        describe(path)
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)
    return str(caught.value)


def test_a_missing_bundle(tmp_path: Path) -> None:
    assert "No such file" in refused(tmp_path / "none.bundle")


def test_a_directory(tmp_path: Path) -> None:
    refused(tmp_path)


def test_a_file_that_is_no_bundle(tmp_path: Path) -> None:
    path = tmp_path / "text.bundle"
    path.write_text("hello" * 50)
    refused(path)


def test_one_altered_byte_of_the_model(converted: Converted, tmp_path: Path) -> None:
    data = bytearray(converted.path.read_bytes())
    data[len(data) // 2] ^= 1
    path = tmp_path / "altered.bundle"
    path.write_bytes(bytes(data))
    refused(path)


def test_a_bundle_cut_short(converted: Converted, tmp_path: Path) -> None:
    path = tmp_path / "cut.bundle"
    path.write_bytes(converted.path.read_bytes()[:-50])
    refused(path)
