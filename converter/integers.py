"""A model with integers at its boundary, spoken to in real units, to compare it with floats."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import msgspec
from numpy.typing import NDArray

from contract.manifest import Quantisation, TensorSpec
from converter.answers import real
from converter.outputs import output_specs
from converter.samples import Arrays, Samples
from converter.sessions import Runner
from model.tensors import checked_inputs


class IntegerRunner:
    """Quantises what goes in and restores what comes out; `raw` hands out the integers.

    `quantisation` by the names of inputs and outputs; `inputs` are the float model's specs.
    """

    def __init__(
        self,
        model: bytes,
        inputs: Sequence[TensorSpec],
        quantisation: Mapping[str, Quantisation],
        batch: int,
    ) -> None:
        self.batch = batch
        self._quantisation = quantisation
        self._runner = Runner(model, batch)
        self.outputs = self._runner.outputs
        self.inputs = tuple(_integer(spec, quantisation.get(spec.name)) for spec in inputs)
        # However many samples come at once, each has the shape of its spec.
        self._any = [msgspec.structs.replace(s, shape=[-1, *s.shape[1:]]) for s in self.inputs]

    def run(self, samples: Samples) -> dict[str, Any]:
        """Real answers by name, float32 [N, ...], to float samples."""
        return self._real(self.raw(samples))

    def run_once(self, inputs: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """One call, floats in and out."""
        return self._real(self.call(self.fed(inputs)))

    def fed(self, inputs: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Floats as the integers that the network takes."""
        return checked_inputs(self._any, inputs)

    def call(self, fed: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """The network alone, integers in and out."""
        return self._runner.run_once(fed)

    def raw(self, samples: Samples) -> dict[str, Any]:
        """The model's own answers, integers."""
        return self._runner.run(taken(samples, self.inputs))

    def specs(self, answers: Arrays) -> tuple[TensorSpec, ...]:
        """Of the outputs, by its own `answers`, with what their integers mean."""
        return tuple(
            msgspec.structs.replace(spec, quantisation=self._quantisation.get(spec.name))
            for spec in output_specs(answers, self.batch)
        )

    def _real(self, answers: Arrays) -> dict[str, Any]:
        specs = self.specs(answers)
        quantised = [spec for spec in specs if spec.quantisation is not None]
        return {**answers, **real(quantised, answers)}


def taken(samples: Samples, inputs: Sequence[TensorSpec]) -> Samples:
    """As the network takes them: floats for an integer input are quantised by its spec."""
    return samples.changed(
        {
            spec.name: (
                partial(_fed, msgspec.structs.replace(spec, shape=[-1, *spec.shape[1:]])),
                spec.dtype,
            )
            for spec in inputs
            if spec.quantisation is not None
        }
    )


def _fed(spec: TensorSpec, values: NDArray[Any]) -> NDArray[Any]:
    return checked_inputs([spec], {spec.name: values})[spec.name]


def _integer(spec: TensorSpec, quantisation: Quantisation | None) -> TensorSpec:
    if quantisation is None:
        return spec
    return msgspec.structs.replace(spec, dtype="uint8", quantisation=quantisation)
