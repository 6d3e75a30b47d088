"""The samples of one conversion: what calibrates, what evaluates, and that they share none."""

from __future__ import annotations

from dataclasses import dataclass

from converter import ranges
from converter.request import ConvertRequest
from converter.samples import Samples, hold_out, read_samples
from converter.source import SourceModel


@dataclass(frozen=True)
class Data:
    """The samples of one conversion. `held_out`: evaluation was cut from the calibration file."""

    calibration: Samples
    evaluation: Samples
    held_out: bool


def read_data(request: ConvertRequest, source: SourceModel) -> Data:
    """Calibration and evaluation samples that share none, checked against the model's inputs."""
    calibration = read_samples(request.calib, source.inputs)
    if request.evaluation is None:
        return Data(*hold_out(calibration), held_out=True)
    evaluation = read_samples(request.evaluation, source.inputs)
    ranges.refuse_overlap(calibration, evaluation)
    return Data(calibration, evaluation, held_out=False)
