"""What every runtime offers, and the check that a loaded model is the one the manifest describes.

Imports no runtime.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from contract.manifest import TensorSpec
from model.errors import ModelLoadFailed
from model.tensors import Array, Tensors, mismatch


class Session(Protocol):
    """A model loaded into a runtime. `infer` may be called from several threads at once."""

    @property
    def inputs(self) -> list[TensorSpec]:
        """The tensors that `infer` takes, as the manifest describes them."""

    @property
    def outputs(self) -> list[TensorSpec]:
        """The tensors that `infer` returns."""

    def infer(self, inputs: Tensors) -> dict[str, Array]:
        """Run once; the outputs belong to the caller.

        Raises `InvalidInput` when the tensors do not fit, `InferenceFailed` when the run does.
        """

    def close(self) -> None:
        """Let go of the runtime's memory; `infer` then raises `InferenceFailed`."""


def require_same_tensors(
    kind: str, specs: Sequence[TensorSpec], found: Sequence[tuple[str, str, Sequence[int]]]
) -> None:
    """Compare the manifest's tensors with (name, dtype, shape) as the runtime sees them.

    Raises `ModelLoadFailed`. `kind` is `input` or `output`.
    """
    by_name = {name: (dtype, shape) for name, dtype, shape in found}
    names = [spec.name for spec in specs]
    if sorted(names) != sorted(by_name):
        raise ModelLoadFailed(f"the model's {kind}s are {sorted(by_name)}; must be {sorted(names)}")
    for spec in specs:
        reason = mismatch(spec, *by_name[spec.name])
        if reason is not None:
            raise ModelLoadFailed(f"the model's {kind} {reason}")
