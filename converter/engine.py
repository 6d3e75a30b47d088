"""What every loaded model offers to the steps that measure it, whatever runtime is behind it."""

from __future__ import annotations

from typing import Any, Protocol

from numpy.typing import NDArray

from converter.samples import Samples


class Engine(Protocol):
    """A model in a runtime, on one thread."""

    batch: int
    outputs: list[str]

    def run(self, samples: Samples) -> dict[str, Any]:
        """Outputs by name, as `answers.collect` has them; raises `ModelFailed` and its errors."""

    def run_once(self, inputs: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """One call; raises `ModelFailed`."""

    def fed(self, inputs: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """`inputs` as the session takes them, integers where it takes integers."""

    def call(self, fed: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """The session alone, on what `fed` gave; its own answers. Raises `ModelFailed`."""
