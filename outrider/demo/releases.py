"""The demo's four releases of `digits`, made by the converter from the example's two trainings."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from outrider.errors import CommandFailed

FAMILY = "digits"


@dataclass(frozen=True)
class Recipe:
    """One release: which training, calibrated on what. `forced`: past the converter's gate."""

    version: str
    training: int
    calibration: str
    forced: bool = False


RECIPES = {
    "1": Recipe("1", training=1, calibration="right"),
    "2": Recipe("2", training=2, calibration="right"),
    # Scaled once more, as if the pixels were bytes: a mistake that people make.
    "3": Recipe("3", training=2, calibration="divided-by-255", forced=True),
    "4": Recipe("4", training=1, calibration="training-scans"),
}


@dataclass(frozen=True)
class Workshop:
    """Where the bundles are made, and the samples that go into them."""

    directory: Path
    models: Path
    calibrations: dict[str, Path]
    evaluation: Path

    def bundle(self, version: str) -> Path:
        """Where the bundle of a version stands once it is made."""
        return self.directory / f"{FAMILY}-{version}.bundle"


def open_workshop(directory: Path) -> Workshop:
    """Write the samples; raises `CommandFailed` where the examples are not at hand."""
    if importlib.util.find_spec("examples") is None:
        raise CommandFailed(
            "the demo needs the project's examples/ folder: run `make demo` in a clone"
        )
    from examples.digits import data

    directory.mkdir(parents=True, exist_ok=True)
    splits = data.load_splits()
    right, evaluation = data.write_conversion_inputs(directory)
    calibrations = {
        "right": right,
        "divided-by-255": directory / "calib-divided-by-255.npz",
        "training-scans": directory / "calib-training-scans.npz",
    }
    wrong = (splits.calibration.image / 255).astype("float32")
    data.write_npz(calibrations["divided-by-255"], {data.INPUT_NAME: wrong})
    data.write_npz(calibrations["training-scans"], {data.INPUT_NAME: splits.train.image[:300]})
    return Workshop(directory, Path(data.__file__).parent, calibrations, evaluation)


def make(workshop: Workshop, version: str, *, force: bool) -> Any:
    """Convert one release; returns the converter's result, raises its errors."""
    from converter.convert import convert
    from converter.request import ConvertRequest

    recipe = RECIPES[version]
    return convert(
        ConvertRequest(
            model=workshop.models / f"digits-{recipe.training}.onnx",
            calib=workshop.calibrations[recipe.calibration],
            evaluation=workshop.evaluation,
            family=FAMILY,
            version=version,
            output=workshop.bundle(version),
            force=force,
            labels=tuple("0123456789"),
        ),
        None,
    )
