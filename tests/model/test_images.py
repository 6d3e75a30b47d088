"""Images: resized like TensorFlow and Pillow, scaled, and laid out as the network takes them."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
import pytest
from PIL import Image

from contract.processing import ImageInput
from model.errors import InvalidInput
from model.images import prepare_image
from model.tensors import Array

PIXELS: Array = (np.arange(7 * 9 * 3).reshape(7, 9, 3) * 37 % 256).astype(np.uint8)
PLAIN = ImageInput(input="x", height=7, width=9, scale=1.0)


def recipe(**changes: Any) -> ImageInput:
    return msgspec.structs.replace(PLAIN, **changes)


def test_the_same_size_changes_nothing() -> None:
    np.testing.assert_array_equal(prepare_image(PLAIN, PIXELS), PIXELS.astype(np.float32))


# tf.image.resize(PIXELS, size, "bilinear", antialias), TensorFlow 2.21: two pixels and the sum.
@pytest.mark.parametrize(
    ("size", "antialias", "inner", "corner", "total"),
    [
        ((4, 5), False, [134.875, 171.875, 208.875], [190.9749, 74.3751, 111.3751], 7739.2),
        ((4, 5), True, [123.9529, 112.7647, 149.7647], [169.5714, 84.6667, 121.6667], 7559.14),
        ((10, 13), False, [122.8654, 133.2808, 137.7885], [226.0, 7.0, 44.0], 49208.18),
        ((10, 13), True, [122.8654, 133.2808, 137.7885], [226.0, 7.0, 44.0], 49208.18),
    ],
)
def test_resizing_is_tensorflows(
    size: tuple[int, int], antialias: bool, inner: list[float], corner: list[float], total: float
) -> None:
    made = prepare_image(recipe(height=size[0], width=size[1], antialias=antialias), PIXELS)
    np.testing.assert_allclose(made[1, 2], inner, atol=2e-3)
    np.testing.assert_allclose(made[-1, -1], corner, atol=2e-3)
    assert made.sum() == pytest.approx(total, rel=1e-5)


@pytest.mark.parametrize(("height", "width"), [(3, 4), (5, 2), (20, 31)])
def test_antialiased_resizing_is_pillows_but_for_its_rounding(height: int, width: int) -> None:
    made = prepare_image(recipe(height=height, width=width), PIXELS)
    pillow = Image.fromarray(PIXELS).resize((width, height), Image.Resampling.BILINEAR)
    assert np.abs(made - np.asarray(pillow, np.float32)).max() <= 1.01


def test_grey_is_as_pillow_sees_it() -> None:
    made = prepare_image(recipe(channels="gray"), PIXELS)
    pillow = np.asarray(Image.fromarray(PIXELS).convert("L"), np.float32)
    assert made.shape == (7, 9, 1)
    assert np.abs(made[..., 0] - pillow).max() <= 0.51


def test_channels_are_turned_around() -> None:
    made = prepare_image(recipe(channels="bgr"), PIXELS)
    np.testing.assert_array_equal(made, PIXELS[..., ::-1].astype(np.float32))


def test_a_grey_image_serves_a_colour_network() -> None:
    made = prepare_image(PLAIN, PIXELS[..., 0])
    np.testing.assert_array_equal(made[..., 2], PIXELS[..., 0].astype(np.float32))


def test_channels_first() -> None:
    made = prepare_image(recipe(layout="nchw"), PIXELS)
    np.testing.assert_array_equal(made, PIXELS.transpose(2, 0, 1).astype(np.float32))
    assert made.flags.c_contiguous


def test_scaling_comes_before_mean_and_std() -> None:
    found = prepare_image(recipe(scale=1 / 255, mean=[0.5, 0.4, 0.3], std=[0.2, 0.2, 0.1]), PIXELS)
    wanted = (PIXELS / 255 - [0.5, 0.4, 0.3]) / [0.2, 0.2, 0.1]
    np.testing.assert_allclose(found, wanted, rtol=1e-6)
    assert found.dtype == np.float32


@pytest.mark.parametrize(
    ("pixels", "words"),
    [
        (PIXELS.astype(np.float32), "float32"),
        (PIXELS[np.newaxis], r"\[1, 7, 9, 3\]"),
        (np.zeros((7, 9, 4), np.uint8), r"\[7, 9, 4\]"),
        (np.zeros((0, 9, 3), np.uint8), "9 x 0"),
        (np.zeros((1, 20_000, 1), np.uint8), "20000 x 1"),
    ],
)
def test_what_is_no_image_is_refused(pixels: Array, words: str) -> None:
    with pytest.raises(InvalidInput, match=words) as caught:
        prepare_image(PLAIN, pixels)
    assert "'x'" in str(caught.value)
