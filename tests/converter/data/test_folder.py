"""Folders of images and sounds: prepared by the recipe, labelled by sub-folder, refused by file."""

from __future__ import annotations

import struct
import wave
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from contract.manifest import TensorSpec
from contract.processing import AudioInput, ImageInput, InputRecipe, Processing, shape_of
from converter import errors
from converter.data import folder, pictures, raw, rows
from converter.data.raw import Reading
from converter.data.waves import read_wave
from converter.samples import Samples, hold_out, read_samples
from model.images import prepare_image
from model.sound import prepare_sound

IMAGE = ImageInput(input="x", height=6, width=5)
SOUND = AudioInput(
    input="x", sample_rate=8000, clip_length=1600, frame_length=400, frame_step=200, mel_bins=12
)
CHANCE = np.random.default_rng(3)
Array = np.ndarray[Any, np.dtype[Any]]


@pytest.fixture(params=["memory", "disk"], autouse=True)
def place(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Where the samples are kept: every test here holds for both."""
    if request.param == "disk":
        monkeypatch.setattr(rows, "IN_MEMORY_BYTES", 0)
    return str(request.param)


def pixels(*shape: int) -> Array:
    return CHANCE.integers(0, 256, shape).astype(np.uint8)


def picture(path: Path, made: Array | None = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels(9, 12, 3) if made is None else made).save(path)
    return path


def sound(path: Path, made: Array | None = None, rate: int = 8000, channels: int = 1) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    samples = CHANCE.integers(-9000, 9000, 1600).astype("<i2") if made is None else made
    with wave.open(str(path), "wb") as file:
        file.setnchannels(channels)
        file.setsampwidth(samples.dtype.itemsize)
        file.setframerate(rate)
        file.writeframes(samples.tobytes())
    return path


def read(path: Path, recipe: InputRecipe, **options: Any) -> Samples:
    spec = TensorSpec(name="x", dtype="float32", shape=[-1, *shape_of(recipe)])
    return read_samples(path, [spec], Reading(Processing(inputs=[recipe]), **options))


def refused(
    path: Path, kind: type[errors.ConvertError], *words: str, recipe: InputRecipe = IMAGE
) -> None:
    with pytest.raises(kind) as caught:
        read(path, recipe)
    for word in words:
        assert word in str(caught.value)
    assert "\n" not in str(caught.value)


def test_images_are_prepared_by_the_recipe(tmp_path: Path) -> None:
    one, two = pixels(9, 12, 3), pixels(6, 5)
    picture(tmp_path / "b.png", one)
    picture(tmp_path / "a.png", two)
    found = read(tmp_path, IMAGE)
    np.testing.assert_array_equal(found.arrays["x"][0], prepare_image(IMAGE, two))
    np.testing.assert_array_equal(found.arrays["x"][1], prepare_image(IMAGE, one))
    assert found.labels is None
    assert found.names == ("a.png", "b.png")


def test_jpeg_files_are_read(tmp_path: Path) -> None:
    picture(tmp_path / "a.jpg")
    picture(tmp_path / "b.JPEG")
    assert len(read(tmp_path, IMAGE)) == 2


def test_palettes_become_colours(tmp_path: Path) -> None:
    Image.fromarray(pixels(6, 5, 3)).quantize(4).save(tmp_path / "a.png")
    picture(tmp_path / "b.png")
    assert read(tmp_path, IMAGE).arrays["x"].shape == (2, 6, 5, 3)


def test_sub_folders_are_the_classes(tmp_path: Path) -> None:
    for name in ("dog/1.png", "cat/2.png", "cat/1.png"):
        picture(tmp_path / name)
    found = read(tmp_path, IMAGE)
    assert found.labels is not None
    assert found.labels.tolist() == [0, 0, 1]
    assert found.classes == ("cat", "dog")
    assert found.names == ("cat/1.png", "cat/2.png", "dog/1.png")


def test_given_names_number_the_classes(tmp_path: Path) -> None:
    for name in ("dog/1.png", "cat/2.png"):
        picture(tmp_path / name)
    found = read(tmp_path, IMAGE, classes=("bird", "dog", "cat"))
    assert found.labels is not None
    assert found.labels.tolist() == [2, 1]
    assert found.classes == ()


def test_sub_folders_that_are_numbers_are_the_classes_of_these_numbers(tmp_path: Path) -> None:
    for number in range(12):
        picture(tmp_path / str(number) / "1.png")
    found = read(tmp_path, IMAGE)
    assert found.labels is not None
    numbered = {
        name.split("/")[0]: label for name, label in zip(found.names, found.labels, strict=True)
    }
    assert numbered == {str(number): number for number in range(12)}
    assert found.classes == tuple(map(str, range(12)))


def test_numbers_may_be_padded_with_noughts(tmp_path: Path) -> None:
    for name in ("00", "01"):
        picture(tmp_path / name / "1.png")
    assert read(tmp_path, IMAGE).classes == ("00", "01")


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (("1", "2"), ("1: the sub-folders are numbers", "0 should", "0 to 1", "--labels")),
        (("0", "1", "3"), ("3: ", "2 should stand here")),
        (("0", "1", "01"), ("2 should", "--labels")),
        (("0", "9" * 60), ("1 should",)),
    ],
)
def test_numbers_with_a_gap_or_twice_are_refused(
    names: tuple[str, ...], words: tuple[str, ...], tmp_path: Path
) -> None:
    for name in names:
        picture(tmp_path / name / "1.png")
    refused(tmp_path, errors.BadLabels, *words)


def test_one_name_that_is_no_number_makes_them_all_names(tmp_path: Path) -> None:
    for name in ("10", "2", "none"):
        picture(tmp_path / name / "1.png")
    assert read(tmp_path, IMAGE).classes == ("10", "2", "none")


def test_given_names_may_be_numbers_with_gaps(tmp_path: Path) -> None:
    for name in ("7", "10"):
        picture(tmp_path / name / "1.png")
    found = read(tmp_path, IMAGE, classes=("10", "7"))
    assert found.labels is not None
    assert found.labels.tolist() == [0, 1]


def test_a_folder_of_no_class_is_named(tmp_path: Path) -> None:
    picture(tmp_path / "fish" / "1.png")
    with pytest.raises(errors.BadLabels, match="fish"):
        read(tmp_path, IMAGE, classes=("cat", "dog"))


def test_names_follow_their_samples_into_the_hold_out(tmp_path: Path) -> None:
    for place in range(8):
        picture(tmp_path / f"{place}.png")
    calibration, evaluation = hold_out(read(tmp_path, IMAGE))
    assert evaluation.names == ("3.png", "7.png")
    assert calibration.said(3) == "sample 3 (4.png)"


def test_sounds_are_prepared_by_the_recipe(tmp_path: Path) -> None:
    made = CHANCE.integers(-9000, 9000, 1600).astype("<i2")
    sound(tmp_path / "yes" / "a.wav", made)
    found = read(tmp_path, SOUND)
    wanted = prepare_sound(SOUND, made.astype(np.float32) / 32_768, 8000)
    np.testing.assert_array_equal(found.arrays["x"][0], wanted)
    assert found.classes == ("yes",)


@pytest.mark.parametrize(
    ("dtype", "full", "zero", "step"), [("u1", 127, 128, 1 / 64), ("<i2", 32767, 0, 1e-4)]
)
def test_sample_widths_mean_the_same_sound(
    tmp_path: Path, dtype: str, full: int, zero: int, step: float
) -> None:
    tone = np.sin(np.arange(1600) / 5)
    found = read_wave(sound(tmp_path / "a.wav", (tone * full + zero).astype(dtype)), 9999)
    assert found.sample_rate == 8000
    np.testing.assert_allclose(found.signal, tone, atol=step)


def test_24_and_32_bit_sound(tmp_path: Path) -> None:
    tone = np.sin(np.arange(1600) / 5)
    deep = (tone * (1 << 30)).astype("<i4")
    with wave.open(str(tmp_path / "b.wav"), "wb") as file:
        file.setparams((1, 3, 8000, 0, "NONE", ""))
        file.writeframes(b"".join(struct.pack("<i", value)[1:] for value in deep.tolist()))
    for path in (sound(tmp_path / "a.wav", deep), tmp_path / "b.wav"):
        np.testing.assert_allclose(read_wave(path, 9999).signal, tone / 2, atol=1e-6)


def test_no_more_of_a_sound_is_read_than_is_used(tmp_path: Path) -> None:
    assert len(read_wave(sound(tmp_path / "a.wav"), 100).signal) == 100


# What is refused


def test_an_empty_folder(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("nothing")
    refused(tmp_path, errors.SamplesUnreadable, "no PNG, JPEG or WAV")


def test_images_and_sounds_together(tmp_path: Path) -> None:
    picture(tmp_path / "a.png")
    sound(tmp_path / "b.wav")
    refused(tmp_path, errors.SamplesUnreadable, "mixed")


def test_a_loose_file_beside_class_folders(tmp_path: Path) -> None:
    picture(tmp_path / "a.png")
    picture(tmp_path / "cat" / "b.png")
    refused(tmp_path, errors.SamplesUnreadable, "a.png")


def test_images_without_a_recipe(tmp_path: Path) -> None:
    picture(tmp_path / "a.png")
    spec = TensorSpec(name="x", dtype="float32", shape=[-1, 6, 5, 3])
    with pytest.raises(errors.RecipeMissing, match="--processing"):
        read_samples(tmp_path, [spec])


def test_images_with_a_recipe_for_sound(tmp_path: Path) -> None:
    picture(tmp_path / "a.png")
    refused(tmp_path, errors.RecipeMissing, "recipe for images", recipe=SOUND)


def test_a_truncated_image_is_named(tmp_path: Path) -> None:
    picture(tmp_path / "a.png")
    bad = picture(tmp_path / "b.png", pixels(60, 60, 3))
    bad.write_bytes(bad.read_bytes()[:2000])
    refused(tmp_path, errors.SamplesUnreadable, "b.png", "whole")


def test_text_in_an_images_place_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_text("not found")
    refused(tmp_path, errors.SamplesUnreadable, "a.png")


def test_another_format_under_a_known_name_is_refused(tmp_path: Path) -> None:
    Image.fromarray(pixels(6, 5, 3)).save(tmp_path / "a.png", format="GIF")
    refused(tmp_path, errors.SamplesUnreadable, "a.png")


@pytest.mark.parametrize(
    ("made", "mode"), [(pixels(6, 5, 4), "RGBA"), (pixels(6, 5).astype(np.uint16) * 200, "I;16")]
)
def test_pixels_of_no_one_meaning(tmp_path: Path, made: Array, mode: str) -> None:
    picture(tmp_path / "a.png", made)
    refused(tmp_path, errors.SamplesUnreadable, "a.png", mode)


def test_an_image_that_unpacks_beyond_the_bound(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    picture(tmp_path / "a.png")
    monkeypatch.setattr(pictures, "MAX_PIXELS", 100)
    refused(tmp_path, errors.SamplesUnreadable, "a.png", "12 x 9")


def test_a_file_beyond_the_bound(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    picture(tmp_path / "a.png")
    monkeypatch.setattr(pictures, "MAX_FILE_BYTES", 10)
    refused(tmp_path, errors.SamplesUnreadable, "a.png")


def test_a_set_beyond_the_bound(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    picture(tmp_path / "a.png")
    monkeypatch.setattr(raw, "MAX_DATA_BYTES", 100)
    refused(tmp_path, errors.SamplesUnreadable, "360 bytes", "fewer samples")


def test_too_many_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in "abc":
        picture(tmp_path / "cat" / f"{name}.png")
    monkeypatch.setattr(folder, "MAX_FILES", 2)
    refused(tmp_path, errors.SamplesUnreadable, "more than 2 files")


def test_an_absent_pillow_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    picture(tmp_path / "a.png")
    monkeypatch.setitem(sys.modules, "PIL", None)
    refused(tmp_path, errors.ExtraMissing, r"outrider[images]")


def test_sound_of_another_rate_is_named(tmp_path: Path) -> None:
    sound(tmp_path / "a.wav", rate=16_000)
    refused(tmp_path, errors.WrongArrays, "a.wav", "16000 Hz; must be 8000 Hz", recipe=SOUND)


def test_stereo_is_named(tmp_path: Path) -> None:
    sound(tmp_path / "a.wav", channels=2)
    refused(tmp_path, errors.SamplesUnreadable, "a.wav", "2 channels", recipe=SOUND)


def test_a_truncated_sound_is_named(tmp_path: Path) -> None:
    sound(tmp_path / "a.wav")
    bad = sound(tmp_path / "b.wav")
    bad.write_bytes(bad.read_bytes()[:900])
    refused(tmp_path, errors.SamplesUnreadable, "b.wav", recipe=SOUND)


def test_an_empty_sound_is_named(tmp_path: Path) -> None:
    sound(tmp_path / "a.wav", np.zeros(0, "<i2"))
    refused(tmp_path, errors.SamplesUnreadable, "a.wav", "0 of 0", recipe=SOUND)


def test_text_in_a_sounds_place_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.wav").write_text("not found")
    refused(tmp_path, errors.SamplesUnreadable, "a.wav", recipe=SOUND)


def test_float_sound_is_refused(tmp_path: Path) -> None:
    path = sound(tmp_path / "a.wav")
    data = bytearray(path.read_bytes())
    data[20:22] = struct.pack("<H", 3)  # WAVE_FORMAT_IEEE_FLOAT
    path.write_bytes(bytes(data))
    refused(tmp_path, errors.SamplesUnreadable, "a.wav", "PCM", recipe=SOUND)


def test_images_that_make_another_shape_than_the_models(tmp_path: Path) -> None:
    picture(tmp_path / "a.png")
    spec = TensorSpec(name="x", dtype="float32", shape=[-1, 8, 8, 3])
    with pytest.raises(errors.WrongShape, match=r"\[N, 8, 8, 3\]"):
        read_samples(tmp_path, [spec], Reading(Processing(inputs=[IMAGE])))


def test_images_all_alike_are_refused(tmp_path: Path) -> None:
    for name in "ab":
        picture(tmp_path / f"{name}.png", np.zeros((6, 5, 3), np.uint8))
    refused(tmp_path, errors.ConstantSamples)
