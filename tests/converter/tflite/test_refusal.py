"""What ai-edge-quantizer says of a numbered tensor is told by the operator that it belongs to."""

from __future__ import annotations

import pytest

from converter.tflite.refusal import placed, refused
from converter.tflite.source import TfliteModel, check_tflite
from tests.converter.tflite import models


@pytest.fixture(scope="module")
def source() -> TfliteModel:
    return check_tflite(models.normalised(), "scans.tflite")


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ("tensor: t3.", "tensor: the constant [8, 8, 1] of MUL, operator 1 of 6."),
        ("tensor t2 of 2", "tensor the result [1, 8, 8, 1] of ADD, operator 2 of 6 of 2"),
        ("no quantization for image", "no quantization for image"),
        ("t999 is not known", "t999 is not known"),
        ("int8 and format2", "int8 and format2"),
    ],
)
def test_a_number_becomes_the_operator(source: TfliteModel, said: str, told: str) -> None:
    assert placed(source, said) == told


def test_the_file_stands_in_front(source: TfliteModel) -> None:
    found = str(refused(source, ValueError("tensor t3 is odd")))
    assert found.startswith("scans.tflite: ai-edge-quantizer failed (tensor the constant [8, 8, 1]")
