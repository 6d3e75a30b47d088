"""How far each layer's answers are from the float model's, on the same samples.

Quantising keeps the operators and their order, and puts others only between them, so the n-th
convolution or matrix product of one model is the n-th of the other. Runs the built-in kernels: the
others fuse layers and keep nothing in between.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
from ai_edge_litert.interpreter import Interpreter, OpResolverType
from numpy.typing import NDArray

from converter.evaluate import sqnr_db
from converter.report import LayerError
from converter.samples import Samples
from converter.tflite.flatbuffer import parse
from converter.tflite.runner import described
from converter.tflite.source import LAYERS, TfliteModel, operator_name, operators
from model.tensors import checked_inputs

MAX_SAMPLES = 32
MAX_LAYERS = 2_000


def layer_errors(model: TfliteModel, int8: bytes, samples: Samples) -> list[LayerError]:
    """SQNR of each layer, from input to output; none where the two models do not line up."""
    ours, theirs = _layers(int8), _layers(model.data)
    if [code for code, _ in ours] != [code for code, _ in theirs] or len(ours) > MAX_LAYERS:
        return []
    few = samples.take(slice(0, MAX_SAMPLES))
    wanted = _Watched(model.data, [place for _, place in theirs]).run(few)
    found = _Watched(int8, [place for _, place in ours])
    signal, noise = np.zeros(len(ours)), np.zeros(len(ours))
    for expected, answers in zip(wanted, found.run(few), strict=True):
        for place, (one, other) in enumerate(zip(expected, answers, strict=True)):
            signal[place] += float(np.square(one).sum())
            noise[place] += float(np.square(one - other).sum())
    return [
        LayerError(
            name=model.layers[place],
            op=operator_name(code),
            sqnr_db=_decibel(signal[place], noise[place]),
            integer=found.integer[place],
        )
        for place, (code, _) in enumerate(ours)
    ]


class _Watched:
    """A model that keeps the answers of the tensors at `places`, one sample at a time."""

    def __init__(self, data: bytes, places: list[int]) -> None:
        self._places = places
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that all tensors are kept is what is wanted
            self._interpreter: Any = Interpreter(
                model_content=data,
                num_threads=1,
                experimental_preserve_all_tensors=True,
                experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
            )
        self._interpreter.allocate_tensors()
        details = {detail["index"]: detail for detail in self._interpreter.get_tensor_details()}
        self._details = [details[place] for place in places]
        self.integer = [np.dtype(detail["dtype"]).kind == "i" for detail in self._details]

    def run(self, samples: Samples) -> Iterator[list[NDArray[np.float64]]]:
        """Real values of each watched tensor, for one sample after the other."""
        inputs = self._interpreter.get_input_details()
        specs = [described(detail) for detail in inputs]
        for one in samples.batches(1):
            feed = checked_inputs(specs, one)
            for detail in inputs:
                self._interpreter.set_tensor(detail["index"], feed[detail["name"]])
            self._interpreter.invoke()
            yield [self._real(detail) for detail in self._details]

    def _real(self, detail: dict[str, Any]) -> NDArray[np.float64]:
        values = self._interpreter.get_tensor(detail["index"]).astype(np.float64)
        scale, zero = detail["quantization"]
        found: NDArray[np.float64] = (values - zero) * scale if scale else values
        return found


def _layers(data: bytes) -> list[tuple[int, int]]:
    """(operator, tensor that it answers) of each layer, in order."""
    found = operators(parse(data, "the model"))
    return [(code, int(node.outputs[0])) for code, node in found if code in LAYERS]


def _decibel(signal: float, noise: float) -> float:
    one = {"x": np.array([np.sqrt(signal)])}
    return sqnr_db(one, {"x": np.array([np.sqrt(signal) - np.sqrt(noise)])})
