"""One pass over the calibration samples: the distribution of every activation at once.

Owns which tensors are watched and how: a copy of the float model answers them batch by batch, they
are counted and forgotten. Memory is that of one batch of activations, however many samples come.
Each fourth sample is counted apart, so that candidates can be judged on what they have not seen.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto

from converter.errors import InvalidOutput, ModelFailed
from converter.quantisation.graph import wire
from converter.quantisation.histogram import Histogram
from converter.samples import BATCH, Samples
from converter.sessions import first_line, open_session

MAX_BATCH_VALUES = 1 << 23
"""Activations that one batch may hold: 32 MB of float32."""
PASSED_ON = frozenset({"Reshape", "Transpose", "Squeeze", "Unsqueeze", "Flatten", "MaxPool"})
"""Their answers are values of their input: they share its range, and its scale."""
CUTS = frozenset({"Relu", "Clip"})
"""What comes before them is never seen in integers: the integer layer cuts as it rounds."""


@dataclass(frozen=True)
class Watched:
    """Distributions by tensor. `source`: the tensor whose range another one shares.

    `peaks`: by tensor float64 [channels], the largest magnitude of each, where that was asked for.
    """

    histograms: Mapping[str, Histogram]
    source: Mapping[str, str]
    peaks: Mapping[str, NDArray[np.float64]]

    def of(self, tensor: str) -> Histogram:
        """The distribution that decides about the range of `tensor`."""
        return self.histograms[self.source.get(tensor, tensor)]

    def merged(self, other: Watched) -> Watched:
        """Of both sets of samples together."""
        return Watched(
            {name: h.merged(other.histograms[name]) for name, h in self.histograms.items()},
            self.source,
            {
                name: np.maximum(peak, other.peaks.get(name, peak))
                for name, peak in self.peaks.items()
            },
        )


def activations(model: onnx.ModelProto) -> list[str]:
    """Names of all float tensors that samples determine, in the order of the graph."""
    constants = {tensor.name for tensor in model.graph.initializer}
    inner = {name for node in model.graph.node for name in node.output}
    values = (*model.graph.input, *model.graph.value_info, *model.graph.output)
    known = {
        value.name
        for value in values
        if value.type.tensor_type.elem_type == TensorProto.FLOAT and value.name not in constants
    }
    used = dict.fromkeys(name for node in model.graph.node for name in (*node.input, *node.output))
    return [name for name in used if name in known and (name in inner or name not in constants)]


def shared_ranges(model: onnx.ModelProto) -> dict[str, str]:
    """Tensor -> the watched one whose range it shares."""
    wiring, known = wire(model.graph), set(activations(model))
    shared: dict[str, str] = {}
    for name in known:
        maker, reader = wiring.makers.get(name), wiring.only_reader(name)
        if maker is not None and maker.op_type in PASSED_ON and maker.input[0] in known:
            shared[name] = maker.input[0]
        elif reader is not None and reader.op_type in CUTS and reader.output[0] in known:
            shared[name] = reader.output[0]
    return {name: _end_of_chain(name, shared) for name in shared}


def _end_of_chain(name: str, shared: Mapping[str, str]) -> str:
    while name in shared:
        name = shared[name]
    return name


def observe(
    model: onnx.ModelProto,
    samples: Samples,
    batch: int,
    told: Callable[[float], None],
    peaked: Sequence[str] = (),
    *,
    counted: bool = True,
    fit_only: bool = False,
) -> tuple[Watched, Watched]:
    """The distributions over the samples to fit on, and over those held back.

    `batch` is 1 where the model takes one sample a call, else -1; `told` hears shares in 0..1;
    `peaked` tensors have their channels on axis 1, whose peaks are kept too. Unless `counted`,
    only minimum and maximum are kept, which takes a third of the time. With `fit_only` those held
    back are not looked at, and their distributions are empty.
    Raises `ModelFailed`, and `InvalidOutput` that names the tensor with NaN or Inf.
    """
    source = shared_ranges(model)
    names = [name for name in activations(model) if name not in source]
    probe = Probe(model, list(dict.fromkeys([*names, *peaked])))
    done, parts = 0, []
    fit, held = split(len(samples))
    for places in (fit, held[:0] if fit_only else held):
        histograms = {name: Histogram(counted=counted) for name in names}
        peaks: dict[str, NDArray[np.float64]] = {}
        for inputs in batches(samples, places, probe, batch):
            told(done / len(samples))
            values = probe.values(inputs)
            _count(values, histograms)
            for name in peaked:
                found = _peaks(values[name])
                peaks[name] = np.maximum(peaks.get(name, found), found)
            done += len(next(iter(inputs.values())))
        parts.append(Watched(histograms, source, peaks))
    return parts[0], parts[1]


def split(count: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Places to fit on, and the held-back ones: every fourth. Of under 8 samples, none is."""
    place = np.arange(count)
    if count < 8:
        return place, place[:0]
    return place[place % 4 != 3], place[place % 4 == 3]


class Probe:
    """The model with some of its inner tensors as the only outputs."""

    def __init__(self, model: onnx.ModelProto, names: Sequence[str]) -> None:
        self.names = list(names)
        self._inputs = {value.name for value in model.graph.input}
        asked = onnx.ModelProto()
        asked.CopyFrom(model)
        del asked.graph.output[:]
        asked.graph.output.extend(
            onnx.ValueInfoProto(name=name) for name in self.names if name not in self._inputs
        )
        self._session = open_session(asked.SerializeToString()) if asked.graph.output else None

    def values(self, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Tensors by name, as the model makes them of `inputs`; raises `ModelFailed`."""
        found = {name: inputs[name] for name in self.names if name in self._inputs}
        if self._session is not None:
            inner = [name for name in self.names if name not in self._inputs]
            try:
                found.update(zip(inner, self._session.run(inner, dict(inputs)), strict=True))
            except Exception as error:  # onnxruntime's errors share no base of their own
                raise ModelFailed(
                    f"onnxruntime does not run the model: {first_line(error)}"
                ) from error
        return found


def _count(found: Mapping[str, NDArray[Any]], histograms: Mapping[str, Histogram]) -> None:
    for name, histogram in histograms.items():
        histogram.observe(found[name])
        # Minimum and maximum are NaN or Inf when any value is.
        if not (math.isfinite(histogram.low) and math.isfinite(histogram.high)):
            raise InvalidOutput(
                f"tensor {name!r} has NaN or Inf on the calibration samples; the model is not"
                " usable on them, check their scale"
            )


def _peaks(values: NDArray[Any]) -> NDArray[np.float64]:
    others = tuple(axis for axis in range(values.ndim) if axis != 1)
    return np.asarray(np.abs(values).max(axis=others), dtype=np.float64)


def batches(
    samples: Samples, places: NDArray[np.int64], probe: Probe, batch: int
) -> Iterator[dict[str, NDArray[Any]]]:
    """The samples at `places`, as many a time as `MAX_BATCH_VALUES` allows."""
    step = 1
    if batch != 1 and len(places):
        one = {name: array[:1] for name, array in samples.arrays.items()}
        each = sum(values.size for values in probe.values(one).values())
        step = int(np.clip(MAX_BATCH_VALUES // max(each, 1), 1, BATCH))
    for start in range(0, len(places), step):
        chosen = places[start : start + step]
        yield {name: array[chosen] for name, array in samples.arrays.items()}
