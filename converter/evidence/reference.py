"""The reference profile of a variant: what its inputs and its own answers looked like.

Computed from the calibration samples through the shipped artifact, so that a device that counts
against it compares like with like. What is counted is model.profile's to say.
"""

from __future__ import annotations

from collections.abc import Sequence

from contract.manifest import TensorSpec
from converter.samples import Arrays, Samples
from model.answers import class_output
from model.profile import build_profile, encode_profile


def profile_bytes(
    variant: str,
    calibration: Samples,
    answers: Arrays,
    inputs: Sequence[TensorSpec],
    outputs: Sequence[TensorSpec],
    classes: int,
) -> bytes:
    """The encoded profile. `answers` are the artifact's own, [N, ...] over all `calibration`.

    `classes` is the number of class names, 0 when they are not known.
    """
    counted = class_output(outputs, inputs[0].shape[:1], classes)
    profile = build_profile(
        variant,
        inputs,
        outputs,
        calibration.arrays,
        {} if counted is None else {counted.name: answers[counted.name][:]},
        classes=classes,
        labels=calibration.labels,
    )
    return encode_profile(profile)
