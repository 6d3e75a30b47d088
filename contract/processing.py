"""What stands before and after the network: raw pixels, sound or columns in, named answers out.

A release states it as data, so that the workstation's calibration and every device prepare an
input by the same few numbers. `model.preprocessing` executes it; the formulas are there.
"""

from __future__ import annotations

import re
from typing import Annotated, Literal, TypeAlias, get_args, get_origin, get_type_hints

import msgspec
from msgspec import Meta

from contract.errors import MalformedManifest

MAX_PROCESSING_BYTES = 64 * 1024

_Name = Annotated[str, Meta(min_length=1, max_length=120)]
_Side = Annotated[int, Meta(ge=1, le=8192)]
_Count = Annotated[int, Meta(ge=1, le=1 << 20)]
_Share = Annotated[float, Meta(ge=0, le=1)]
_Values = Annotated[list[float], Meta(max_length=4096)]


class ImageInput(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind", tag="image"):
    """Pixels of 0..255 -> (pixel * scale - mean) / std, resized, in the network's layout."""

    input: _Name
    height: _Side
    width: _Side
    channels: Literal["rgb", "bgr", "gray"] = "rgb"
    layout: Literal["nhwc", "nchw"] = "nhwc"
    antialias: bool = True
    """Whether shrinking averages over what it skips, as Pillow and torchvision do; TensorFlow's
    and OpenCV's bilinear resizing do not."""
    scale: float = 1 / 255
    mean: _Values = []
    """One value, or one a channel; none: 0."""
    std: _Values = []
    """One value, or one a channel; none: 1."""


class AudioInput(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind", tag="audio"):
    """Mono sound of -1..1 -> [frames, features]. Lengths count samples.

    The clip is cut or padded with silence to `clip_length`; frames that do not fit whole are left
    out.
    """

    input: _Name
    sample_rate: Annotated[int, Meta(ge=1000, le=192_000)]
    clip_length: Annotated[int, Meta(ge=1, le=1 << 24)]
    frame_length: _Count
    frame_step: _Count
    features: Literal["mfcc", "log-mel"] = "mfcc"
    coefficients: Annotated[int, Meta(ge=1, le=512)] = 10
    """How many MFCCs are kept; not used for log-mel."""
    mel_bins: Annotated[int, Meta(ge=1, le=512)] = 40
    low_hz: Annotated[float, Meta(ge=0)] = 20.0
    high_hz: Annotated[float, Meta(gt=0)] = 4000.0
    floor: Annotated[float, Meta(gt=0)] = 1e-6
    """Added before the logarithm."""
    normalise: bool = False
    """Whether the clip is first divided by its largest absolute value."""
    channel_axis: bool = True
    """Whether the network wants [frames, features, 1]."""
    mean: float = 0.0
    std: Annotated[float, Meta(gt=0)] = 1.0


class TableInput(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind", tag="table"):
    """Named columns, in the network's order -> (value - mean) / std."""

    input: _Name
    columns: Annotated[list[_Name], Meta(min_length=1, max_length=4096)]
    mean: _Values = []
    """One value a column; none: 0."""
    std: _Values = []
    """One value a column; none: 1."""


InputRecipe: TypeAlias = ImageInput | AudioInput | TableInput


class Classification(msgspec.Struct, frozen=True, kw_only=True):
    """Scores of one output -> the likeliest classes, best first."""

    output: _Name
    softmax: bool = False
    """Whether the network leaves its scores as logits."""
    top: Annotated[int, Meta(ge=1, le=100)] = 1
    threshold: _Share = 0.0
    """Classes of a lower probability are not told."""
    thresholds: Annotated[dict[_Name, _Share], Meta(max_length=4096)] = {}
    """By label, where one class needs another than `threshold`."""


class Processing(msgspec.Struct, frozen=True, kw_only=True):
    """The whole of it. An input that has no recipe is given as the network takes it."""

    inputs: Annotated[list[InputRecipe], Meta(max_length=32)] = []
    classification: Classification | None = None


_DECODER = msgspec.json.Decoder(Processing)
_REFUSED = re.compile(r"Invalid .*value '.*' - at `.*\.(\w+)`$")
_CHOICES: dict[str, tuple[str, ...]] = {
    "kind": ("image", "audio", "table"),
    **{
        name: get_args(kind)
        for recipe in (ImageInput, AudioInput)
        for name, kind in get_type_hints(recipe).items()
        if get_origin(kind) is Literal
    },
}


def decode_processing(data: bytes) -> Processing:
    """Parse and check; raises `MalformedManifest` and nothing else."""
    if len(data) > MAX_PROCESSING_BYTES:
        raise MalformedManifest(f"processing of {len(data)} bytes; at most {MAX_PROCESSING_BYTES}")
    try:
        found = _DECODER.decode(data)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        words = str(error)[:300]
        raise MalformedManifest(f"processing: {words}{_choices(words)}") from error
    check_processing(found)
    return found


def _choices(words: str) -> str:
    """What a field may be, of which msgspec says only that it is something else."""
    found = _REFUSED.match(words)
    values = _CHOICES.get(found[1], ()) if found is not None else ()
    return f"; one of {', '.join(values)}" if values else ""


def check_processing(processing: Processing) -> None:
    """What one field cannot say of another; raises `MalformedManifest`."""
    names = [recipe.input for recipe in processing.inputs]
    if len(set(names)) != len(names):
        raise MalformedManifest(f"processing: inputs {names} are named twice")
    for recipe in processing.inputs:
        reason = _why_wrong(recipe)
        if reason is not None:
            raise MalformedManifest(f"processing of {recipe.input!r}: {reason}")


def shape_of(recipe: InputRecipe) -> list[int]:
    """The shape of one prepared sample, without the batch."""
    if isinstance(recipe, ImageInput):
        depth = 1 if recipe.channels == "gray" else 3
        plane = [recipe.height, recipe.width]
        return [*plane, depth] if recipe.layout == "nhwc" else [depth, *plane]
    if isinstance(recipe, AudioInput):
        frames = 1 + (recipe.clip_length - recipe.frame_length) // recipe.frame_step
        columns = recipe.coefficients if recipe.features == "mfcc" else recipe.mel_bins
        return [frames, columns, 1] if recipe.channel_axis else [frames, columns]
    return [len(recipe.columns)]


def _why_wrong(recipe: InputRecipe) -> str | None:
    if isinstance(recipe, AudioInput):
        return _why_wrong_audio(recipe)
    if isinstance(recipe, ImageInput):
        counts: tuple[int, ...] = (0, 1, 1 if recipe.channels == "gray" else 3)
    else:
        counts = (0, len(recipe.columns))
        if len(set(recipe.columns)) != len(recipe.columns):
            return "a column is named twice"
    for what, values in (("mean", recipe.mean), ("std", recipe.std)):
        if len(values) not in counts:
            return f"{len(values)} values of {what}; give one of {sorted(set(counts))}"
    if any(value <= 0 for value in recipe.std):
        return "a std is not positive"
    return None


def _why_wrong_audio(recipe: AudioInput) -> str | None:
    if recipe.frame_length > recipe.clip_length:
        return f"frames of {recipe.frame_length} samples in a clip of {recipe.clip_length}"
    if recipe.frame_length < 2:
        return "frames of one sample have no spectrum"
    if not recipe.low_hz < recipe.high_hz <= recipe.sample_rate / 2:
        return (
            f"mel bins from {recipe.low_hz:g} to {recipe.high_hz:g} Hz; they end at"
            f" {recipe.sample_rate / 2:g} Hz, half of the sample rate"
        )
    if recipe.features == "mfcc" and recipe.coefficients > recipe.mel_bins:
        return f"{recipe.coefficients} coefficients of {recipe.mel_bins} mel bins"
    return None
