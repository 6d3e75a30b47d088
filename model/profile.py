"""The reference profile: what a variant's inputs and answers looked like on calibration data.

Computed through the very artifact that ships; its digest is its identity, and counts may only be
added when they were counted against the same one. Bounded and checked on decoding. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Protocol

import msgspec
import numpy as np
from msgspec import Meta

from contract.ids import Id
from contract.manifest import TensorSpec
from model.answers import Answers, answers_of, class_output, is_distribution
from model.binning import (
    CONFIDENCE_BINS,
    FEATURE_BINS,
    Binning,
    check_binning,
    equiprobable_edges,
    reference_binning,
)
from model.errors import InvalidInput, MalformedProfile
from model.features import MAX_FEATURES, Floats, feature_names, feature_rows, watched
from model.tensors import Array, Tensors, real_values

PROFILE_SCHEMA = 1
MAX_PROFILE_BYTES = 1 << 20
MAX_CLASSES = 1024
"""As many as one report holds; the answers of models with more are not counted by class."""
_BLOCK = 64
_Specs = Annotated[list[TensorSpec], Meta(min_length=1, max_length=32)]


class Sliceable(Protocol):
    """An array [N, ...] in memory, or one that is read as it is sliced."""

    def __len__(self) -> int:
        """N."""

    def __getitem__(self, rows: slice, /) -> Array:
        """A few rows, in memory."""


class Range(msgspec.Struct, frozen=True):
    """The least and the greatest real value of an input in the calibration data."""

    low: float
    high: float


class ClassReference(msgspec.Struct, frozen=True, kw_only=True):
    """How the answers are read, and what they were on the reference."""

    output: str
    softmax: bool
    """Whether the output holds scores that a softmax turns into probabilities."""
    counts: Annotated[list[int], Meta(min_length=2, max_length=MAX_CLASSES)]
    confidence: Binning
    entropy: Binning
    atc_threshold: float | None = None
    """Average thresholded confidence (Garg et al., ICLR 2022): the share of answers below it was
    the error rate on the reference. One edge of `confidence`. None without labels."""


class ReferenceProfile(msgspec.Struct, frozen=True, kw_only=True):
    """What DriftCounter counts against."""

    schema: int = PROFILE_SCHEMA
    variant: Id
    samples: int
    inputs: _Specs
    outputs: _Specs
    features: Annotated[dict[str, Binning], Meta(max_length=MAX_FEATURES)]
    ranges: Annotated[dict[str, Range], Meta(max_length=32)]
    classes: ClassReference | None = None


def build_profile(
    variant: str,
    inputs: Sequence[TensorSpec],
    outputs: Sequence[TensorSpec],
    input_arrays: Mapping[str, Sliceable],
    output_arrays: Tensors,
    classes: int = 0,
    labels: Array | None = None,
) -> ReferenceProfile:
    """The profile of calibration samples [N, ...] and of what the shipped artifact answered.

    The samples need not be in memory: they are read once, in slices of a few. `classes` is the
    number of labels (0: not known); `labels` the N true classes, when they are known. Raises
    `MalformedProfile` when the arrays do not fit the specs.
    """
    try:
        rows, ranges = _in_blocks(inputs, input_arrays)
        answers = _class_reference(inputs, outputs, output_arrays, classes, labels)
    except (InvalidInput, KeyError) as error:
        raise MalformedProfile(f"the profile's samples do not fit the model: {error}") from error
    return ReferenceProfile(
        variant=variant,
        samples=len(input_arrays[inputs[0].name]),
        inputs=list(inputs),
        outputs=list(outputs),
        features={
            name: _binned(column, FEATURE_BINS)
            for name, column in zip(feature_names(inputs), rows.T, strict=True)
        },
        ranges=ranges,
        classes=answers,
    )


def encode_profile(profile: ReferenceProfile) -> bytes:
    """Canonical JSON: equal profiles give equal bytes; raises `MalformedProfile` when too long."""
    data = msgspec.json.format(msgspec.json.encode(profile, order="sorted"), indent=0) + b"\n"
    if len(data) > MAX_PROFILE_BYTES:
        raise MalformedProfile(f"profile of {len(data)} bytes; at most {MAX_PROFILE_BYTES}")
    return data


_DECODER = msgspec.json.Decoder(ReferenceProfile)


def decode_profile(data: bytes) -> ReferenceProfile:
    """Parse and check a profile; raises `MalformedProfile` and nothing else."""
    if len(data) > MAX_PROFILE_BYTES:
        raise MalformedProfile(f"profile of {len(data)} bytes; at most {MAX_PROFILE_BYTES}")
    try:
        profile = _DECODER.decode(data)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise MalformedProfile(f"profile: {str(error)[:300]}") from error
    if profile.schema != PROFILE_SCHEMA:
        raise MalformedProfile(f"profile schema {profile.schema}; this program reads 1")
    if set(profile.features) != set(feature_names(profile.inputs)):
        raise MalformedProfile("profile: its features are not those of its inputs")
    for name, binning in profile.features.items():
        check_binning(binning, FEATURE_BINS, name[:80])
    if profile.classes is not None:
        _check_classes(profile, profile.classes)
    return profile


def class_spec(profile: ReferenceProfile) -> TensorSpec | None:
    """The output that is counted by class, if one is."""
    if profile.classes is None:
        return None
    return next((s for s in profile.outputs if s.name == profile.classes.output), None)


def _check_classes(profile: ReferenceProfile, classes: ClassReference) -> None:
    spec = class_spec(profile)
    if spec is None or len(spec.shape) < 2 or spec.shape[-1] != len(classes.counts):
        raise MalformedProfile("profile: its classes are not those of one of its outputs")
    if min(classes.counts) < 0 or sum(classes.counts) > 1 << 53:
        raise MalformedProfile("profile: a class has a count that nothing can have counted")
    check_binning(classes.confidence, CONFIDENCE_BINS, "confidence")
    check_binning(classes.entropy, FEATURE_BINS, "entropy")


def _in_blocks(
    inputs: Sequence[TensorSpec], arrays: Mapping[str, Sliceable]
) -> tuple[Floats, dict[str, Range]]:
    """Features and ranges block by block: large images need not all be in memory at once."""
    count = len(arrays[inputs[0].name])
    if not count:
        raise InvalidInput("there are no samples")
    rows: list[Floats] = []
    ends: dict[str, list[Array]] = {spec.name: [] for spec in watched(inputs)}
    for start in range(0, count, _BLOCK):
        block = {name: array[start : start + _BLOCK] for name, array in arrays.items()}
        rows.append(feature_rows(inputs, block))
        for name, found in ends.items():
            found.append(_ends(block[name]))
    ranges = {spec.name: _range(spec, ends[spec.name]) for spec in watched(inputs)}
    return np.concatenate(rows), ranges


def _ends(array: Array) -> Array:
    """The least and the greatest finite value, of the array's own type; or none."""
    finite = array[np.isfinite(array)]
    return np.array([finite.min(), finite.max()] if finite.size else [], dtype=array.dtype)


def _class_reference(
    inputs: Sequence[TensorSpec],
    outputs: Sequence[TensorSpec],
    arrays: Tensors,
    classes: int,
    labels: Array | None,
) -> ClassReference | None:
    spec = class_output(outputs, inputs[0].shape[:1], classes)
    if spec is None or spec.shape[-1] > MAX_CLASSES:
        return None
    softmax = not is_distribution(spec, arrays[spec.name])
    answers = answers_of(spec, arrays, softmax)
    threshold = None if labels is None else _atc_threshold(answers, labels)
    chosen = answers.classes[answers.classes >= 0]
    return ClassReference(
        output=spec.name,
        softmax=softmax,
        counts=np.bincount(chosen, minlength=spec.shape[-1]).tolist(),
        confidence=_confidence(answers, threshold),
        entropy=_binned(answers.entropy, FEATURE_BINS, (0.0, float(np.log(spec.shape[-1])))),
        atc_threshold=threshold,
    )


def _confidence(answers: Answers, threshold: float | None) -> Binning:
    span = (0.0, 1.0)
    if threshold is None:
        return _binned(answers.confidence, CONFIDENCE_BINS, span)
    finite = answers.confidence[np.isfinite(answers.confidence)]
    edges = equiprobable_edges(finite, CONFIDENCE_BINS - 1)
    return reference_binning(answers.confidence, sorted([*edges, threshold]), span)


def _atc_threshold(answers: Answers, labels: Array) -> float:
    if labels.shape != answers.classes.shape:
        raise InvalidInput(f"labels of shape {labels.shape} for {len(answers.classes)} samples")
    ranked = np.sort(answers.confidence[np.isfinite(answers.confidence)])
    errors = int((answers.classes != labels).sum())
    if not len(ranked):
        return 0.0
    if errors <= 0:
        return float(ranked[0])
    return float(ranked[errors]) if errors < len(ranked) else 1.0


def _binned(column: Floats, bins: int, span: tuple[float, float] | None = None) -> Binning:
    edges = equiprobable_edges(column[np.isfinite(column)], bins)
    return reference_binning(column, edges, span)


def _range(spec: TensorSpec, ends: Sequence[Array]) -> Range:
    found = np.concatenate(ends)
    if not found.size:
        return Range(0.0, 0.0)
    low, high = real_values(spec, _ends(found))
    return Range(float(low), float(high))
