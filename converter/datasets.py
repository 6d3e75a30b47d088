"""The samples of one conversion: what calibrates, what evaluates, and that they share none."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from contract.manifest import TensorSpec
from converter import ranges
from converter.data.raw import Reading
from converter.errors import InvalidRequest
from converter.request import ConvertRequest
from converter.samples import Samples, hold_out, read_samples
from model.preprocessing import why_unfit


@dataclass(frozen=True)
class Data:
    """The samples of one conversion. `held_out`: evaluation was cut from the calibration file."""

    calibration: Samples
    evaluation: Samples
    held_out: bool

    @property
    def classes(self) -> tuple[str, ...]:
        """The names that the sources themselves gave to the classes, or none."""
        return self.evaluation.classes or self.calibration.classes


def read_data(
    request: ConvertRequest, inputs: Sequence[TensorSpec], columns: tuple[str, ...] = ()
) -> Data:
    """Calibration and evaluation samples that share none, checked against the model's inputs.

    `columns`: what the model calls its values, in its order, where it does.
    """
    if request.processing is not None:
        reason = why_unfit(request.processing, list(inputs))
        if reason is not None:
            raise InvalidRequest(f"--processing: {reason}; correct the file")
    # Beside the bundle, where there is a disk: temporary files are often kept in memory.
    beside = request.output.absolute().parent
    alone = request.evaluation is None
    reading = Reading(
        request.processing,
        request.labels,
        request.label_column,
        alone,
        beside,
        columns,
        request.model.name,
    )
    calibration = read_samples(request.calib, inputs, reading)
    if request.evaluation is None:
        return Data(*hold_out(calibration), held_out=True)
    evaluation = read_samples(request.evaluation, inputs, _like(calibration, reading))
    ranges.refuse_overlap(calibration, evaluation)
    return Data(calibration, evaluation, held_out=False)


def _like(calibration: Samples, reading: Reading) -> Reading:
    """How the file beside the calibration is read: its columns by their names, and its labels."""
    if not calibration.columns:
        return replace(reading, labelled=True)
    columns, whose = calibration.columns, calibration.origin
    return replace(reading, labelled=True, columns=columns, columns_of=whose)
