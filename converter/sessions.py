"""onnxruntime as the converter uses it: one thread, quiet, and its failures as one named error.

The pipeline runs models through `Runner`, so that every figure comes from the same settings.
"""

from __future__ import annotations

import contextlib
import io
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from converter.answers import collect
from converter.errors import ModelFailed
from converter.samples import Samples

_FATAL_ONLY = 4
"""An error is raised as well, and told by us."""
_DEFAULT_SEVERITY = 2


class Runner:
    """One loaded model. `run` answers whole sets of samples, batch by batch."""

    def __init__(self, model: bytes, batch: int = -1) -> None:
        self.batch = batch
        self._session = open_session(model)
        self.outputs = [output.name for output in self._session.get_outputs()]

    def run(self, samples: Samples) -> dict[str, Any]:
        """Outputs by name, as `answers.collect` has them; raises `ModelFailed` and its errors."""
        return collect(samples, self.batch, self._run_batch)

    def _run_batch(self, inputs: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        try:
            return self.run_once(inputs)
        except ModelFailed as error:
            raise self._refuses_many(inputs) or error from error

    def _refuses_many(self, inputs: dict[str, NDArray[Any]]) -> ModelFailed | None:
        """The error of a graph that says "any batch" at its inputs, and one inside; or None."""
        count = len(next(iter(inputs.values())))
        if count == 1:
            return None
        try:
            self.run_once({name: array[:1] for name, array in inputs.items()})
        except ModelFailed:
            return None
        return ModelFailed(
            f"the model answers one sample, and fails for {count} at once: a batch of 1 stands in"
            " its graph; export it with a dynamic batch, or convert with --fixed-batch"
        )

    def run_once(self, inputs: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """One call; raises `ModelFailed`."""
        try:
            answers = self._session.run(self.outputs, inputs)
        except Exception as error:  # onnxruntime's errors share no base of their own
            raise ModelFailed(f"onnxruntime does not run the model: {first_line(error)}") from error
        count = len(next(iter(inputs.values())))
        for name, answer in zip(self.outputs, answers, strict=True):
            if not isinstance(answer, np.ndarray) or answer.ndim < 1 or len(answer) != count:
                raise ModelFailed(
                    f"output {name!r} has no batch in front; export the model so that each output"
                    " has one row a sample"
                )
        return dict(zip(self.outputs, answers, strict=True))

    def fed(self, inputs: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """As they are: samples have the types of the model that they were read for."""
        return inputs

    def call(self, fed: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """As `run_once`, which does nothing beside the session's call."""
        return self.run_once(fed)


def open_session(model: bytes) -> Any:
    """An onnxruntime session on the CPU; raises `ModelFailed`."""
    try:
        return onnxruntime.InferenceSession(
            model, session_options(), providers=["CPUExecutionProvider"]
        )
    except Exception as error:  # onnxruntime's errors share no base of their own
        raise ModelFailed(f"onnxruntime does not load the model: {first_line(error)}") from error


def session_options(optimised: Path | None = None) -> Any:
    """Options of every session here; `optimised` asks for the optimised graph as a file."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.log_severity_level = _FATAL_ONLY
    if optimised is not None:
        options.optimized_model_filepath = str(optimised)
    return options


@contextlib.contextmanager
def quiet() -> Iterator[list[str]]:
    """Keep what onnxruntime's tools print and log off the terminal; yields their warnings.

    They log through the root logger and set it up when nobody has, hence the swap of handlers.
    """
    root, notes = logging.getLogger(), _Notes()
    handlers, level = root.handlers[:], root.level
    root.handlers[:] = [notes]
    root.setLevel(logging.WARNING)
    onnxruntime.set_default_logger_severity(_FATAL_ONLY)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield notes.texts
    finally:
        onnxruntime.set_default_logger_severity(_DEFAULT_SEVERITY)
        root.handlers[:] = handlers
        root.setLevel(level)


class _Notes(logging.Handler):
    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.texts: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.texts.append(record.getMessage())


def first_line(error: BaseException) -> str:
    """What a library said, short enough for one line."""
    return " ".join(str(error).split())[:200] or type(error).__name__
