"""Arrays at a model's boundary: whether they are what a manifest's specs say, and real values.

Pure. A tensor with quantisation holds integers q; its real values are (q - zero_point) * scale.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from contract.manifest import TensorSpec
from model.errors import InvalidInput

Array = npt.NDArray[Any]
Tensors = Mapping[str, Array]


def checked_inputs(specs: Sequence[TensorSpec], inputs: Tensors) -> dict[str, Array]:
    """The inputs in the order and dtype of `specs`; raises `InvalidInput` that names the tensor.

    Floats given for a quantised input are quantised; every other dtype has to be the spec's own.
    """
    known = {spec.name for spec in specs}
    unknown = sorted(inputs.keys() - known)
    if unknown:
        raise InvalidInput(f"the model has no input {unknown[0][:80]!r}; it takes {sorted(known)}")
    return {spec.name: _checked(spec, inputs.get(spec.name)) for spec in specs}


def mismatch(spec: TensorSpec, dtype: str, shape: Sequence[int]) -> str | None:
    """Why a tensor of this dtype and shape does not fit the spec; None when it does.

    A dimension of -1 on either side fits any size.
    """
    if dtype != spec.dtype:
        return f"{spec.name}: dtype {dtype}; must be {spec.dtype}"
    fits = len(shape) == len(spec.shape) and all(
        want == have or -1 in (want, have) for want, have in zip(spec.shape, shape, strict=True)
    )
    return None if fits else f"{spec.name}: shape {list(shape)}; must be {spec.shape}"


def real_values(spec: TensorSpec, array: Array) -> Array:
    """The array as float64 in real units: dequantised by the spec where it is quantised."""
    values: Array = array.astype(np.float64, order="C")
    if spec.quantisation is not None and array.dtype.kind in "iu":
        values -= spec.quantisation.zero_point
        values *= spec.quantisation.scale
    return values


def _checked(spec: TensorSpec, array: Array | None) -> Array:
    if array is None:
        raise InvalidInput(f"input {spec.name!r} is missing")
    integers = np.dtype(spec.dtype).kind in "iu"
    if spec.quantisation is not None and integers and array.dtype.kind == "f":
        array = _quantised(spec, array)
    reason = mismatch(spec, array.dtype.name, array.shape)
    if reason is not None:
        raise InvalidInput(f"input {reason}")
    return np.ascontiguousarray(array)


def _quantised(spec: TensorSpec, array: Array) -> Array:
    assert spec.quantisation is not None  # noqa: S101 - narrows the type; the caller has looked
    if not np.isfinite(array).all():
        raise InvalidInput(f"input {spec.name}: NaN or Inf cannot be quantised")
    limits = np.iinfo(spec.dtype)
    if spec.quantisation.scale <= 0:
        raise InvalidInput(
            f"input {spec.name}: its scale {spec.quantisation.scale} is not positive"
        )
    steps = np.rint(array.astype(np.float64) / spec.quantisation.scale)
    steps += spec.quantisation.zero_point
    found: Array = np.clip(steps, limits.min, limits.max).astype(spec.dtype)
    return found
