"""One PNG or JPEG file -> its pixels, through Pillow; every other format is refused.

Orientation notes of cameras are not obeyed: neither the training tools nor a device's camera do.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from contract.processing import InputRecipe
from converter.errors import ExtraMissing, SamplesUnreadable

MAX_FILE_BYTES = 64 << 20
MAX_PIXELS = 64_000_000
_PLAIN = {"1": "L", "L": "L", "P": "RGB", "RGB": "RGB", "CMYK": "RGB", "YCbCr": "RGB"}
"""Pillow's modes -> what we take them as. 16-bit grey and transparency have no one meaning."""


def read_picture(path: Path, recipe: InputRecipe | None = None) -> NDArray[np.uint8]:
    """uint8 [H, W] of a grey image, else [H, W, 3]; raises `SamplesUnreadable`, `ExtraMissing`."""
    image = _pillow()
    if path.stat().st_size > MAX_FILE_BYTES:
        raise SamplesUnreadable(f"{path}: more than {MAX_FILE_BYTES} bytes; give smaller images")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of a damaged note, or of a size that we bound
            with image.open(path, formats=("PNG", "JPEG")) as opened:
                _refuse_large(path, opened.width, opened.height)
                mode = _PLAIN.get(opened.mode)
                if mode is None or "transparency" in opened.info:
                    raise SamplesUnreadable(
                        f"{path}: pixels of mode {opened.mode}"
                        f"{' with transparency' if mode else ''}; save it as plain 8-bit RGB"
                    )
                pixels = np.asarray(opened.convert(mode), dtype=np.uint8)
    except (OSError, SyntaxError, ValueError, image.DecompressionBombError) as error:
        raise SamplesUnreadable(
            f"{path}: not a whole PNG or JPEG image; save it again or remove it"
        ) from error
    return pixels


def _refuse_large(path: Path, width: int, height: int) -> None:
    if width * height > MAX_PIXELS:
        raise SamplesUnreadable(
            f"{path}: {width} x {height} pixels; at most {MAX_PIXELS} in all, give smaller images"
        )


def _pillow() -> Any:
    try:
        from PIL import Image
    except ImportError as error:
        raise ExtraMissing(
            "folders of images need Pillow; pip install 'outrider[images]'"
        ) from error
    return Image
