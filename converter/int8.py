"""The int8 artifact: quantised, compacted, audited; with the activation type that fuses best.

uint8 activations fuse on every processor that we measured, int8 ones on some graphs only; so uint8
is taken, and int8 is tried where uint8 left a layer in float.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import onnx
from onnxruntime.quantization import QuantType

from converter.audit import Audit, audit
from converter.compact import compact
from converter.errors import NothingToQuantise
from converter.quantise import BatchReader, quantise
from converter.samples import Samples


@dataclass(frozen=True)
class Int8Model:
    """Bytes that ship, the type of their activations, and what the audit found."""

    data: bytes
    activations: str
    audit: Audit
    notes: tuple[str, ...]


def make_int8(
    model: onnx.ModelProto,
    calibration: Samples,
    batch: int,
    work: Path,
    told: Callable[[float], None],
) -> Int8Model:
    """The int8 model of a canonical float model; `told` hears shares in 0..1."""

    def attempt(kind: QuantType, name: str) -> Int8Model:
        reader = BatchReader(calibration, batch, told)
        quantised, notes = quantise(model, reader, work, kind)
        data = compact(quantised)
        return Int8Model(data, name, audit(data, work), tuple(dict.fromkeys(notes)))

    best = attempt(QuantType.QUInt8, "uint8")
    if best.audit.floating:
        signed = attempt(QuantType.QInt8, "int8")
        # A tie keeps uint8, the type that other versions of the runtime fuse more often.
        best = min((best, signed), key=lambda made: made.audit.floating)
    if best.audit.integer == 0:
        raise NothingToQuantise(
            "no layer of the int8 model would run in integers; ship the model as float"
        )
    return best
