"""A raw input -> what the network takes, by the release's recipe. The device runs this very code.

Dispatches to `images` and `sound`; columns are done here. Deterministic, numpy only. Holds no
state, opens nothing, resamples nothing: where the raw input comes from is the caller's affair.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from contract.manifest import TensorSpec
from contract.processing import ImageInput, InputRecipe, Processing, TableInput, shape_of
from model.errors import InvalidInput
from model.images import prepare_image
from model.sound import prepare_sound
from model.tensors import Array


@dataclass(frozen=True, eq=False)
class Sound:
    """float [n], mono, -1..1, and how many of them make a second."""

    signal: Array
    sample_rate: int


Raw = Array | Sound
"""Pixels uint8 [H, W] or [H, W, 3], sound, or float columns [C]."""


def prepare(recipe: InputRecipe, raw: Raw) -> Array:
    """One sample of `shape_of(recipe)`, float32; raises `InvalidInput` that names the input."""
    if isinstance(raw, Sound):
        if isinstance(recipe, ImageInput | TableInput):
            raise InvalidInput(f"input {recipe.input!r}: sound was given for {_kind(recipe)}")
        return prepare_sound(recipe, raw.signal, raw.sample_rate)
    if isinstance(recipe, ImageInput):
        return prepare_image(recipe, raw)
    if isinstance(recipe, TableInput):
        return prepare_columns(recipe, raw)
    raise InvalidInput(f"input {recipe.input!r}: give sound with its sample rate")


def prepare_columns(recipe: TableInput, values: Array) -> Array:
    """float [C] in the recipe's order -> float32 [C]."""
    if values.shape != (len(recipe.columns),) or values.dtype.kind != "f":
        raise InvalidInput(
            f"input {recipe.input!r}: {values.dtype} of shape {list(values.shape)}; must be"
            f" {len(recipe.columns)} floats"
        )
    scaled = (values.astype(np.float64) - (recipe.mean or [0.0])) / (recipe.std or [1.0])
    return np.ascontiguousarray(scaled, dtype=np.float32)


def prepare_request(processing: Processing, raw: Mapping[str, Raw]) -> dict[str, Array]:
    """One sample for every input, with a batch of 1 in front. An input without a recipe passes.

    Raises `InvalidInput`.
    """
    recipes = {recipe.input: recipe for recipe in processing.inputs}
    made: dict[str, Array] = {}
    for name, value in raw.items():
        if name in recipes:
            made[name] = prepare(recipes[name], value)[np.newaxis]
        elif isinstance(value, Sound):
            raise InvalidInput(f"input {name[:80]!r} has no recipe that takes sound")
        else:
            made[name] = value[np.newaxis]
    return made


def why_unfit(processing: Processing, inputs: list[TensorSpec]) -> str | None:
    """Why the recipes do not make what the network takes; None when they do."""
    specs = {spec.name: spec for spec in inputs}
    for recipe in processing.inputs:
        spec = specs.get(recipe.input)
        if spec is None:
            return f"the model has no input {recipe.input!r}; it takes {sorted(specs)}"
        if spec.shape[1:] != shape_of(recipe):
            return (
                f"{recipe.input!r} is prepared as {shape_of(recipe)}, the model takes"
                f" {spec.shape[1:]}"
            )
        if spec.dtype not in ("float32", "float16") and spec.quantisation is None:
            return f"{recipe.input!r} is prepared as float32, the model takes {spec.dtype}"
    return None


def _kind(recipe: InputRecipe) -> str:
    return "an image" if isinstance(recipe, ImageInput) else "columns"
