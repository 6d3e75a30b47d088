"""Which variant of a release a device runs: one pure function, shared by hub and device."""

from __future__ import annotations

import re

from contract.errors import NoVariantFits
from contract.manifest import Manifest, Variant
from contract.messages import Hardware

_RUNTIME_PROVIDERS = {
    "onnxruntime": ("onnxruntime",),
    "litert": ("litert", "tflite-runtime"),
}
"""Which installed runtimes can run a variant's format."""


def choose_variant(manifest: Manifest, hardware: Hardware) -> Variant:
    """The first variant, in the manifest's order, that the hardware can run.

    Raises `NoVariantFits` with one reason a variant.
    """
    reasons = []
    for variant in manifest.variants:
        reason = why_not(variant, hardware)
        if reason is None:
            return variant
        reasons.append(f"{variant.name}: {reason}")
    raise NoVariantFits(f"{manifest.target} has no variant for this device; " + "; ".join(reasons))


def why_not(variant: Variant, hardware: Hardware) -> str | None:
    """None when the variant can run on the hardware, else the reason in words."""
    needs = variant.requires
    if needs.machines and hardware.machine not in needs.machines:
        return f"needs {' or '.join(needs.machines)}, this is {hardware.machine}"
    missing = [a for a in needs.accelerators if a not in hardware.accelerators]
    if missing:
        return f"needs {', '.join(missing)}"
    if hardware.memory_bytes and needs.memory_bytes > hardware.memory_bytes:
        return f"needs {needs.memory_bytes} bytes of memory, there are {hardware.memory_bytes}"
    return _why_not_runtime(variant, hardware)


def _why_not_runtime(variant: Variant, hardware: Hardware) -> str | None:
    providers = _RUNTIME_PROVIDERS[variant.runtime]
    installed = {name: hardware.runtimes[name] for name in providers if name in hardware.runtimes}
    if not installed:
        return f"needs {' or '.join(providers)}, which is not installed"
    wanted = version_key(variant.requires.min_runtime)
    if all(version_key(version) < wanted for version in installed.values()):
        return f"needs {variant.runtime} {variant.requires.min_runtime}, this has {installed}"
    return None


def version_key(version: str) -> tuple[int, ...]:
    """`1.31.1` -> (1, 31, 1), for comparing; what is not a number ends it."""
    numbers = []
    for part in version.split("."):
        match = re.match(r"\d{1,9}", part)
        if match is None:
            break
        numbers.append(int(match.group()))
    return tuple(numbers)
