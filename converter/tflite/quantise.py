"""Float .tflite -> int8 .tflite by ai-edge-quantizer: int8 weights per channel, int8 activations.

Owns the settings, and how calibration is fed: in batches, as views of the samples. The tool's own
default averages the ranges of single samples (18 dB on MLPerf Tiny's keyword model, where the
true minimum and maximum give 27), so the way that ranges are gathered is a setting here.
"""

from __future__ import annotations

import contextlib
import io
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from converter.errors import ExtraMissing
from converter.samples import BATCH, Samples
from converter.tflite.flatbuffer import parse
from converter.tflite.refusal import refused
from converter.tflite.source import SIGNATURE, TfliteModel

Ranges = Literal["averaged", "minimum and maximum"]
MAX_BATCH_VALUES = 1 << 23
"""Activations that one batch may hold, 32 MB of float32: the calibrator keeps all of them."""
_FAILURES = (
    ArithmeticError,
    AttributeError,
    LookupError,
    NotImplementedError,
    RuntimeError,
    TypeError,
    ValueError,
)
"""What the tool raises on a graph that it did not foresee is not one family."""


@dataclass(frozen=True)
class Settings:
    """How one candidate is made. `weights` names ai-edge-quantizer's algorithm.

    OCTAV knows symmetric ranges only, and the tool asks it for every constant: a network with one
    in an ADD or MUL has no such candidate.
    """

    ranges: Ranges
    weights: Literal["MIN_MAX_UNIFORM_QUANT", "OCTAV"] = "MIN_MAX_UNIFORM_QUANT"

    @property
    def name(self) -> str:
        """For the report."""
        extra = "" if self.weights == "MIN_MAX_UNIFORM_QUANT" else f", weights by {self.weights}"
        return self.ranges + extra


class _Batches:
    """The calibrator counts its data before it reads them, so it must be able to start again."""

    def __init__(self, samples: Samples, batch: int, told: Callable[[float], None]) -> None:
        self._samples, self._batch, self._told = samples, batch, told
        self._counted = False

    def __iter__(self) -> Iterator[dict[str, NDArray[Any]]]:
        done = 0
        for inputs in self._samples.batches(self._batch):
            if self._counted:
                self._told(done / len(self._samples))
            done += len(next(iter(inputs.values())))
            yield inputs
        self._counted = True


def calibrate(
    model: TfliteModel, samples: Samples, settings: Settings, told: Callable[[float], None]
) -> dict[str, Any]:
    """The range of every tensor over `samples`, as ai-edge-quantizer keeps them."""
    _, tool = _tools()
    update = {} if settings.ranges == "averaged" else {"qsv_update_func": _min_max}
    try:
        with _quiet():
            calibrator = tool.calibrator.Calibrator(model.data, num_threads=1, **update)
            batches = _Batches(samples, _batch(model), told)
            calibrator.calibrate({SIGNATURE: batches}, _recipe(tool, settings, False))
        ranges: dict[str, Any] = calibrator.get_model_qsvs()
    except _FAILURES as error:
        raise refused(model, error) from error
    return ranges


def quantise(
    model: TfliteModel, ranges: dict[str, Any], settings: Settings, *, integer_io: bool
) -> bytes:
    """The int8 model out of calibrated `ranges`. `integer_io`: inputs and outputs are int8 too."""
    quantizer, tool = _tools()
    recipe = _recipe(tool, settings, integer_io).get_quantization_recipe()
    try:
        with _quiet():
            made = quantizer.Quantizer(model.data, recipe).quantize(
                ranges, enable_progress_bar=False, enable_progress_report=False
            )
    except _FAILURES as error:
        raise refused(model, error) from error
    return bytes(made.quantized_model)


def _recipe(tool: Any, settings: Settings, integer_io: bool) -> Any:
    names, algorithms = tool.qtyping.TFLOperationName, tool.algorithm_manager.AlgorithmName
    recipe = tool.recipe_manager.RecipeManager()
    chosen = getattr(algorithms, settings.weights)
    recipe.add_static_config(".*", names.ALL_SUPPORTED, 8, 8, algorithm_key=chosen)
    # LiteRT's kernel has one scale for each side, and answers zeros where the file holds many.
    whole = tool.qtyping.QuantGranularity.TENSORWISE
    recipe.add_static_config(".*", names.BATCH_MATMUL, 8, 8, whole, chosen)
    if not integer_io:
        for boundary in (names.INPUT, names.OUTPUT):
            recipe.add_quantization_config(".*", boundary, algorithm_key=algorithms.NO_QUANTIZE)
    return recipe


def _min_max(old: dict[str, Any], new: dict[str, Any]) -> dict[str, Any]:
    """As the tool's `min_max_update`, which keeps minimum and maximum too."""
    if not old:
        return new
    return {"min": np.minimum(old["min"], new["min"]), "max": np.maximum(old["max"], new["max"])}


def _batch(model: TfliteModel) -> int:
    if model.batch == 1:
        return 1
    shapes = [t.shape for t in parse(model.data, model.name).subgraphs[0].tensors]
    each = sum(int(np.prod(shape)) for shape in shapes if shape is not None and len(shape))
    return int(np.clip(MAX_BATCH_VALUES // max(each, 1), 1, BATCH))


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """It warns that it keeps all tensors, which is why it is called, and draws progress bars."""
    with warnings.catch_warnings(), contextlib.redirect_stderr(io.StringIO()):
        warnings.simplefilter("ignore")
        yield


def _tools() -> tuple[Any, Any]:
    """The quantiser's module, and the package through which its other modules are reached."""
    try:
        import ai_edge_quantizer
        from ai_edge_quantizer import (
            algorithm_manager,  # noqa: F401 - importing a module makes it reachable
            calibrator,  # noqa: F401 - as above
            qtyping,  # noqa: F401 - as above
            quantizer,
            recipe_manager,  # noqa: F401 - as above
        )
    except ImportError as error:
        raise ExtraMissing(
            "TensorFlow Lite models need ai-edge-quantizer; pip install 'outrider[tflite]'"
        ) from error
    return quantizer, ai_edge_quantizer
