"""Float model -> int8 model in QDQ form, by onnxruntime's quantiser, within ranges given to it.

Owns: the settings (int8 weights per channel, uint8 or int8 activations, which operators). Where
the ranges come from is `quantisation.calibration`'s matter. What the quantiser leaves behind is
cleared away by `compact`; whether its layers really run in integers is found out by `audit`.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

import numpy as np
import onnx
from onnxruntime.quantization import CalibrationMethod, QuantType
from onnxruntime.quantization.calibrate import TensorsData
from onnxruntime.quantization.qdq_quantizer import QDQQuantizer
from onnxruntime.quantization.registry import QDQRegistry, QLinearOpsRegistry

from converter.errors import NothingToQuantise, QuantisationFailed
from converter.ranges import Range
from converter.sessions import first_line, quiet

FLOAT_TAIL = frozenset({"Softmax", "LogSoftmax"})
"""Stay float: a probability in steps of 1/256 says little, and a few values cost nothing."""
OPERATORS = sorted((set(QDQRegistry) | set(QLinearOpsRegistry)) - FLOAT_TAIL)
"""Sorted, and given explicitly: the library's own default is a set, ordered by the hash seed."""
LAYERS = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"})
"""Where nearly all work is done: a model without one gains nothing from int8."""


def quantise(
    model: onnx.ModelProto,
    ranges: Mapping[str, Range],
    activations: QuantType = QuantType.QUInt8,
    keep_float: Collection[str] = (),
) -> tuple[onnx.ModelProto, list[str]]:
    """The int8 model and what the quantiser warned of; `model` stays as it is.

    `ranges` by activation tensor; `keep_float` names nodes that are left alone.
    """
    if not any(node.op_type in LAYERS for node in model.graph.node):
        raise NothingToQuantise(
            f"the model has no {', '.join(sorted(LAYERS))}; int8 would not help, and no such"
            " network is shipped as float (docs/models.md)"
        )
    try:
        with quiet() as notes:
            left_alone = {*keep_float, *_grouped_deconvolutions(model)}
            quantised = _quantise(model, ranges, activations, sorted(left_alone))
    except (ValueError, RuntimeError, TypeError, KeyError, AttributeError, IndexError) as error:
        raise QuantisationFailed(
            f"onnxruntime's quantiser failed ({first_line(error)}); export the model with"
            " opset_version=17 and static shapes"
        ) from error
    return quantised, notes


def _grouped_deconvolutions(model: onnx.ModelProto) -> list[str]:
    """onnxruntime scales their weights by output channel, and forgets that a group has fewer."""
    return [
        node.name
        for node in model.graph.node
        if node.op_type == "ConvTranspose"
        and any(a.name == "group" and a.i > 1 for a in node.attribute)
    ]


def _quantise(
    model: onnx.ModelProto, ranges: Mapping[str, Range], kind: QuantType, excluded: list[str]
) -> onnx.ModelProto:
    copy = onnx.shape_inference.infer_shapes(model)
    # So does the quantiser mark what it has inferred; else it writes the model to the disk for it.
    copy.metadata_props.add(key="onnx.infer", value="onnxruntime.quant")
    # Named MinMax whatever method found the ranges: for the quantiser it means "use as they are".
    given = TensorsData(
        CalibrationMethod.MinMax,
        {name: (np.float32(r.low), np.float32(r.high)) for name, r in ranges.items()},
    )
    quantizer = QDQQuantizer(
        copy,
        per_channel=True,
        reduce_range=False,
        weight_qType=QuantType.QInt8,
        activation_qType=kind,
        tensors_range=given,
        nodes_to_quantize=[],
        nodes_to_exclude=excluded,
        op_types_to_quantize=OPERATORS,
        extra_options={},
    )
    quantizer.quantize_model()
    quantizer.model.topological_sort()
    made: onnx.ModelProto = quantizer.model.model
    return made
