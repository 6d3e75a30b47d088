"""Inputs that several converter tests share: the digits example's, and a small seeded model's."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from converter.convert import Converted, convert
from converter.request import ConvertRequest
from examples.digits.data import write_conversion_inputs
from tests.agent.disks import small_disk
from tests.converter import models

__all__ = ["small_disk"]

DIGITS = Path(__file__).resolve().parents[2] / "examples" / "digits"


@dataclass(frozen=True)
class Inputs:
    """Files of one conversion and the folder for its bundle."""

    model: Path
    calib: Path
    evaluation: Path
    folder: Path

    @property
    def measurements(self) -> Path:
        """Where conversions of these files keep the latencies that they measured."""
        return self.folder / "measurements"

    def request(self, **changes: object) -> ConvertRequest:
        """A request for `digits:1` out of these files, with `changes`."""
        fields: dict[str, object] = {
            "model": self.model,
            "calib": self.calib,
            "evaluation": self.evaluation,
            "family": "digits",
            "version": "1",
            "output": self.folder / "out.bundle",
            "measurement_cache": self.measurements,
        }
        return ConvertRequest(**{**fields, **changes})  # type: ignore[arg-type]  # tests pick fields


@pytest.fixture(scope="session")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Inputs:
    """The committed digits-1 model with the example's own calibration and evaluation scans."""
    folder = tmp_path_factory.mktemp("digits")
    calib, evaluation = write_conversion_inputs(folder)
    return Inputs(DIGITS / "digits-1.onnx", calib, evaluation, folder)


@pytest.fixture(scope="session")
def converted(digits: Inputs) -> Converted:
    """digits-1 converted once for all tests that only look."""
    return convert(digits.request(output=digits.folder / "digits-1.bundle"))


@pytest.fixture
def small(tmp_path: Path) -> Inputs:
    """A small trained classifier with samples of its own."""
    made = models.classifier()
    return Inputs(
        models.save(tmp_path / "small.onnx", made),
        models.save_samples(tmp_path / "calib.npz", image=models.images(40, seed=5)),
        models.save_samples(
            tmp_path / "eval.npz", image=models.images(60, seed=11), labels=models.kinds(60)
        ),
        tmp_path,
    )
