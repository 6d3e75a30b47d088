"""What a candidate is held against: its predecessor on this very device, or else the reference.

Taken just before the switch, since the server counts each model from when it began to serve.
"""

from __future__ import annotations

from agent.deployment.ports import InferenceServer
from agent.deployment.state import Baseline, Serving
from agent.errors import DeviceError
from agent.serving.protocol import ModelCounters
from agent.store.install import read_manifest, variant_of
from agent.store.layout import Layout, file_path
from contract.errors import ContractError
from model.drift import class_shares
from model.errors import ModelError
from model.profile import ReferenceProfile, decode_profile

MIN_PREVIOUS_ANSWERS = 50
"""Fewer answers say less of the class mix than the reference does."""


def take_baseline(
    layout: Layout,
    server: InferenceServer,
    family: str,
    candidate: Serving,
    previous: Serving | None,
) -> Baseline:
    """The class mix to compare with; an empty one when there is nothing to compare with."""
    classes = _reference_counts(layout, family, candidate)
    try:
        counters = server.counters()
    except DeviceError:
        return _from_counts(classes, "reference")
    for seen in (counters.families.get(family), counters.retired.get(family)):
        if seen is not None and _comparable(seen, previous, classes):
            assert seen.drift is not None  # noqa: S101 - narrows the type
            shares = class_shares(seen.drift)
            return Baseline(class_shares=shares, answers=sum(seen.drift.classes), source="previous")
    return _from_counts(classes, "reference")


def _comparable(seen: ModelCounters, previous: Serving | None, classes: list[int]) -> bool:
    if previous is None or seen.digest != previous.digest or seen.drift is None:
        return False
    same_classes = not classes or len(seen.drift.classes) == len(classes)
    return same_classes and sum(seen.drift.classes) >= MIN_PREVIOUS_ANSWERS


def _from_counts(counts: list[int], source: str) -> Baseline:
    total = sum(counts)
    if not total:
        return Baseline()
    shares = [count / total for count in counts]
    return Baseline(class_shares=shares, answers=total, source=source)


def _reference_counts(layout: Layout, family: str, candidate: Serving) -> list[int]:
    profile = _profile(layout, family, candidate)
    return [] if profile is None or profile.classes is None else list(profile.classes.counts)


def _profile(layout: Layout, family: str, candidate: Serving) -> ReferenceProfile | None:
    directory = layout.installed(family, candidate.digest)
    try:
        manifest = read_manifest(directory, candidate.digest)
        if manifest is None:
            return None
        variant = variant_of(manifest, candidate.variant)
        return decode_profile(file_path(directory, variant.profile).read_bytes())
    except (DeviceError, ModelError, ContractError, OSError):
        return None  # the load that follows re-checks every digest and tells what is wrong
