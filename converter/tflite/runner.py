"""LiteRT as the converter uses it: the runtime and the kernels that devices run, on one thread.

Answers like `converter.sessions.Runner`, so that every step after quantising serves both formats.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from ai_edge_litert.interpreter import Interpreter, OpResolverType
from numpy.typing import NDArray

from contract.manifest import Quantisation, TensorSpec
from converter import answers as answering
from converter.errors import ModelFailed, NotTflite
from converter.samples import Arrays, Samples
from converter.sessions import first_line
from model.tensors import checked_inputs

_ERRORS = (RuntimeError, ValueError, MemoryError)


class TfliteRunner:
    """One loaded model. Floats given for a quantised input are quantised; see `real` for outputs.

    `reference`: the built-in kernels instead of XNNPACK's, which are the same on every machine.
    """

    def __init__(self, model: bytes, batch: int = -1, *, reference: bool = False) -> None:
        self.batch = batch
        kernels = (
            OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES if reference else OpResolverType.AUTO
        )
        try:
            self._interpreter: Any = Interpreter(
                model_content=model, num_threads=1, experimental_op_resolver_type=kernels
            )
            self._interpreter.allocate_tensors()
        except _ERRORS as error:
            raise ModelFailed(f"LiteRT does not load the model: {first_line(error)}") from error
        inputs = self._interpreter.get_input_details()
        outputs = self._interpreter.get_output_details()
        self.inputs = [described(detail) for detail in inputs]
        self.output_specs = [described(detail) for detail in outputs]
        self.outputs = [spec.name for spec in self.output_specs]
        self._places = {d["name"]: d["index"] for d in (*inputs, *outputs)}
        self._rows = 1

    def run(self, samples: Samples) -> dict[str, Any]:
        """Outputs by name, as `answers.collect` has them; raises `ModelFailed` and its errors."""
        return answering.collect(samples, self.batch, self.run_once)

    def run_once(self, inputs: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """One call; raises `ModelFailed`, and `model.errors.InvalidInput` for other tensors."""
        return self.call(self.fed(inputs))

    def fed(self, inputs: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """The tensors of the model's own types; raises `model.errors.InvalidInput`."""
        return checked_inputs(self.inputs, inputs)

    def call(self, fed: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """The interpreter alone, on what `fed` gave; raises `ModelFailed`."""
        rows = len(next(iter(fed.values())))
        try:
            self._fit(fed, rows)
            for name, array in fed.items():
                self._interpreter.set_tensor(self._places[name], array)
            self._interpreter.invoke()
            answers = {n: self._interpreter.get_tensor(self._places[n]) for n in self.outputs}
        except _ERRORS as error:
            raise ModelFailed(f"LiteRT does not run the model: {first_line(error)}") from error
        for name, answer in answers.items():
            if answer.ndim < 1 or len(answer) != rows:
                raise ModelFailed(
                    f"output {name!r} has no batch in front; export the model so that each output"
                    " has one row a sample"
                )
        return answers

    def _fit(self, feed: dict[str, NDArray[Any]], rows: int) -> None:
        if rows == self._rows:
            return
        for name, array in feed.items():
            self._interpreter.resize_tensor_input(self._places[name], array.shape, strict=True)
        self._interpreter.allocate_tensors()
        self._rows = rows


def real(runner: TfliteRunner, answers: Arrays) -> dict[str, Any]:
    """The answers in real units as float32, whatever integers the model gives them in."""
    return answering.real(runner.output_specs, answers)


def require_loadable(data: bytes, name: str) -> None:
    """LiteRT's own verifier, which follows no offset out of the file; raises `NotTflite`."""
    try:
        Interpreter(model_content=data)
    except _ERRORS as error:
        raise NotTflite(
            f"{name}: LiteRT refuses it ({first_line(error)}); it is truncated, damaged or no"
            " TensorFlow Lite model, export it again"
        ) from error


def described(detail: dict[str, Any]) -> TensorSpec:
    """The spec of an interpreter's input or output."""
    scale, zero_point = detail["quantization"]
    return TensorSpec(
        name=detail["name"],
        dtype=np.dtype(detail["dtype"]).name,
        shape=[int(size) for size in detail["shape_signature"]],
        quantisation=Quantisation(float(scale), int(zero_point)) if scale else None,
    )
