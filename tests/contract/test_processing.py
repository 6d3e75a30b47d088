"""Recipes for raw inputs: what they say of themselves, and which are refused."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from contract.errors import MalformedManifest
from contract.manifest import decode_manifest, encode_manifest
from contract.processing import (
    MAX_PROCESSING_BYTES,
    AudioInput,
    Classification,
    ImageInput,
    Processing,
    TableInput,
    check_processing,
    decode_processing,
    shape_of,
)
from tests.contract.test_manifest import manifest

IMAGE = ImageInput(input="x", height=96, width=80)
SOUND = AudioInput(
    input="x", sample_rate=16_000, clip_length=16_000, frame_length=640, frame_step=320
)
TABLE = TableInput(input="x", columns=["a", "b", "c"])


def replace(recipe: Any, **changes: Any) -> Any:
    return msgspec.structs.replace(recipe, **changes)


@pytest.mark.parametrize(
    ("recipe", "shape"),
    [
        (IMAGE, [96, 80, 3]),
        (replace(IMAGE, layout="nchw"), [3, 96, 80]),
        (replace(IMAGE, channels="gray"), [96, 80, 1]),
        (SOUND, [49, 10, 1]),
        (replace(SOUND, features="log-mel"), [49, 40, 1]),
        (replace(SOUND, channel_axis=False), [49, 10]),
        (replace(SOUND, clip_length=639 + 321), [2, 10, 1]),
        (TABLE, [3]),
    ],
)
def test_the_shape_of_a_prepared_sample(recipe: Any, shape: list[int]) -> None:
    assert shape_of(recipe) == shape
    check_processing(Processing(inputs=[recipe]))


@pytest.mark.parametrize(
    ("recipe", "words"),
    [
        (replace(IMAGE, mean=[0.1, 0.2]), "2 values of mean"),
        (replace(IMAGE, std=[0.1, 0.2, 0.0]), "std is not positive"),
        (replace(IMAGE, channels="gray", std=[1.0, 1.0, 1.0]), "3 values of std"),
        (replace(TABLE, mean=[1.0]), "1 values of mean"),
        (replace(TABLE, columns=["a", "b", "a"]), "named twice"),
        (replace(SOUND, frame_length=16_001), "frames of 16001"),
        (replace(SOUND, frame_length=1), "no spectrum"),
        (replace(SOUND, high_hz=8001.0), "8000 Hz"),
        (replace(SOUND, low_hz=4000.0), "mel bins"),
        (replace(SOUND, coefficients=41), "41 coefficients"),
    ],
)
def test_a_recipe_that_contradicts_itself_is_refused(recipe: Any, words: str) -> None:
    with pytest.raises(MalformedManifest, match=words):
        check_processing(Processing(inputs=[recipe]))
    with pytest.raises(MalformedManifest, match="'x'"):
        decode_processing(msgspec.json.encode(Processing(inputs=[recipe])))


def test_two_recipes_for_one_input_are_refused() -> None:
    with pytest.raises(MalformedManifest, match="named twice"):
        check_processing(Processing(inputs=[IMAGE, SOUND]))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{",
        b"[]",
        b'{"inputs":[{"kind":"video","input":"x"}]}',
        b'{"inputs":[{"kind":"image","input":"x","height":0,"width":8}]}',
        b'{"classification":{"output":"y","threshold":2}}',
        b" " * (MAX_PROCESSING_BYTES + 1),
    ],
)
def test_what_is_no_recipe_is_refused(data: bytes) -> None:
    with pytest.raises(MalformedManifest):
        decode_processing(data)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b'{"inputs":[{"kind":"video","input":"x"}]}', "one of image, audio, table"),
        (
            b'{"inputs":[{"kind":"image","input":"x","height":8,"width":8,"channels":"RGB"}]}',
            "channels`; one of rgb, bgr, gray",
        ),
        (
            b'{"inputs":[{"kind":"image","input":"x","height":8,"width":8,"layout":"chw"}]}',
            "layout`; one of nhwc, nchw",
        ),
        (
            b'{"inputs":[{"kind":"audio","input":"x","sample_rate":8000,"clip_length":8000,'
            b'"frame_length":8,"frame_step":8,"features":"mel"}]}',
            "features`; one of mfcc, log-mel",
        ),
    ],
)
def test_a_word_that_is_none_of_those_allowed_names_them(data: bytes, words: str) -> None:
    with pytest.raises(MalformedManifest, match=words):
        decode_processing(data)


def test_a_manifest_carries_recipes() -> None:
    recipes = Processing(inputs=[SOUND], classification=Classification(output="y", top=3))
    found = decode_manifest(encode_manifest(manifest(processing=recipes)))
    assert found.processing == recipes


def test_a_manifest_without_recipes_has_the_bytes_that_it_always_had() -> None:
    assert b"processing" not in encode_manifest(manifest())
    assert decode_manifest(encode_manifest(manifest())).processing is msgspec.UNSET


def test_a_manifest_with_a_broken_recipe_is_refused() -> None:
    broken = manifest(processing=Processing(inputs=[replace(TABLE, mean=[1.0])]))
    with pytest.raises(MalformedManifest, match="values of mean"):
        decode_manifest(encode_manifest(broken))
