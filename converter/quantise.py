"""Float model -> int8 model in QDQ form, by onnxruntime's static quantisation.

Owns: the settings (uint8 activations, int8 weights per channel, ranges from minimum and maximum)
and the reader that feeds calibration batch by batch. What the quantiser leaves behind is cleared
away by `compact`; whether its layers really run in integers is found out by `audit`.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
from numpy.typing import NDArray
from onnxruntime.quantization import (
    CalibrationDataReader,
    CalibrationMethod,
    QuantFormat,
    QuantType,
    quantize_static,
)
from onnxruntime.quantization.registry import QDQRegistry, QLinearOpsRegistry

from converter.errors import NothingToQuantise, QuantisationFailed
from converter.samples import Samples
from converter.sessions import first_line, quiet

FLOAT_TAIL = frozenset({"Softmax", "LogSoftmax"})
"""Stay float: a probability in steps of 1/256 says little, and a few values cost nothing."""
OPERATORS = sorted((set(QDQRegistry) | set(QLinearOpsRegistry)) - FLOAT_TAIL)
"""Sorted, and given explicitly: the library's own default is a set, ordered by the hash seed."""
LAYERS = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"})
"""Where nearly all work is done: a model without one gains nothing from int8."""


class BatchReader(CalibrationDataReader):  # type: ignore[misc]  # onnxruntime ships no types
    """Hands calibration one batch at a time and tells how far it got."""

    def __init__(self, samples: Samples, batch: int, told: Callable[[float], None]) -> None:
        self._batches = samples.batches(batch)
        self._count, self._done, self._told = len(samples), 0, told

    def get_next(self) -> dict[str, NDArray[Any]] | None:
        """The next batch by input name, or None at the end, as onnxruntime asks for it."""
        inputs = next(self._batches, None)
        if inputs is not None:
            self._told(self._done / self._count)
            self._done += len(next(iter(inputs.values())))
        return inputs


def quantise(
    model: onnx.ModelProto,
    reader: BatchReader,
    work: Path,
    activations: QuantType = QuantType.QUInt8,
) -> tuple[onnx.ModelProto, list[str]]:
    """The int8 model and what the quantiser warned of; files go to `work` only."""
    if not any(node.op_type in LAYERS for node in model.graph.node):
        raise NothingToQuantise(
            f"the model has no {', '.join(sorted(LAYERS))}; int8 would not help, ship it as float"
        )
    before, after = work / "float.onnx", work / "int8.onnx"
    marked = onnx.ModelProto()
    marked.CopyFrom(model)
    # So that the quantiser does not advise what canonicalise has done.
    onnx.helper.set_model_props(marked, {"onnx.quant.pre_process": "onnxruntime.quant"})
    onnx.save(marked, before)
    try:
        with quiet() as notes:
            _quantise_static(before, after, reader, activations)
    except (ValueError, RuntimeError, TypeError, KeyError, AttributeError, IndexError) as error:
        raise QuantisationFailed(
            f"onnxruntime's quantiser failed ({first_line(error)}); export the model with"
            " opset_version=17 and static shapes"
        ) from error
    return onnx.load(after), notes


def _quantise_static(before: Path, after: Path, reader: BatchReader, kind: QuantType) -> None:
    quantize_static(
        before,
        after,
        reader,
        quant_format=QuantFormat.QDQ,
        op_types_to_quantize=OPERATORS,
        per_channel=True,
        activation_type=kind,
        weight_type=QuantType.QInt8,
        calibrate_method=CalibrationMethod.MinMax,
    )
