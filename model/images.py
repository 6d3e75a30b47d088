"""Pixels -> an image network's input. Pure numpy; the same numbers on every machine.

Resizing is bilinear with pixel centres at halves, as in OpenCV, TensorFlow 2 and Pillow: output
pixel i looks at (i + 0.5) * in / out - 0.5. With `antialias` the triangle is widened by in / out
when shrinking, as in Pillow and torchvision (Pillow also rounds to whole pixels, we do not).
Grey is ITU-R BT.601's luma, 0.299 R + 0.587 G + 0.114 B, as in OpenCV and Pillow.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from contract.processing import ImageInput
from model.errors import InvalidInput
from model.tensors import Array

MAX_SIDE = 16_384
_LUMA = np.array([0.299, 0.587, 0.114])


def prepare_image(recipe: ImageInput, pixels: Array) -> Array:
    """uint8 [H, W], [H, W, 1] or [H, W, 3] in RGB -> float32 of `shape_of(recipe)`.

    Raises `InvalidInput`.
    """
    _check(recipe, pixels)
    wide = pixels.astype(np.float64)
    if wide.ndim == 2:
        wide = wide[..., np.newaxis]
    wide = _channels(wide, recipe.channels)
    rows = _weights(wide.shape[0], recipe.height, recipe.antialias)
    columns = _weights(wide.shape[1], recipe.width, recipe.antialias)
    sized = np.einsum("yh,hwc->ywc", rows, wide)
    sized = np.einsum("xw,ywc->yxc", columns, sized)
    scaled = (sized * recipe.scale - (recipe.mean or [0.0])) / (recipe.std or [1.0])
    if recipe.layout == "nchw":
        scaled = scaled.transpose(2, 0, 1)
    return np.ascontiguousarray(scaled, dtype=np.float32)


def _check(recipe: ImageInput, pixels: Array) -> None:
    if pixels.dtype != np.uint8:
        raise InvalidInput(f"input {recipe.input!r}: pixels of {pixels.dtype}; give uint8, 0..255")
    shape = pixels.shape
    if pixels.ndim not in (2, 3) or (pixels.ndim == 3 and shape[2] not in (1, 3)):
        raise InvalidInput(
            f"input {recipe.input!r}: an image of shape {list(shape)}; give [height, width],"
            " [height, width, 1] or [height, width, 3]"
        )
    if not 0 < min(shape[:2]) <= max(shape[:2]) <= MAX_SIDE:
        raise InvalidInput(
            f"input {recipe.input!r}: an image of {shape[1]} x {shape[0]} pixels; 1 to {MAX_SIDE}"
        )


def _channels(image: Array, wanted: str) -> Array:
    if wanted == "gray":
        return image if image.shape[2] == 1 else (image @ _LUMA)[..., np.newaxis]
    if image.shape[2] == 1:
        image = np.repeat(image, 3, axis=2)
    return image[..., ::-1] if wanted == "bgr" else image


@lru_cache(maxsize=32)
def _weights(size: int, wanted: int, antialias: bool) -> Array:
    """[wanted, size]: how much each old pixel counts in each new one; rows add up to 1."""
    ratio = size / wanted
    support = max(ratio, 1.0) if antialias else 1.0
    centres = (np.arange(wanted) + 0.5) * ratio - 0.5
    if not antialias:
        # Beyond the outermost centres the border repeats itself.
        centres = np.clip(centres, 0, size - 1)
    distance = np.abs(np.arange(size) - centres[:, np.newaxis]) / support
    weights = np.maximum(0.0, 1.0 - distance)
    found: Array = weights / weights.sum(axis=1, keepdims=True)
    return found
