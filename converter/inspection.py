"""A bundle described in plain values, for `outrider inspect`. Reads and checks; changes nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from contract.errors import ContractError
from contract.ids import digest_of
from contract.manifest import FileRef, TensorSpec, Variant
from converter.errors import BundleUnreadable
from model.archive import Bundle, open_bundle
from model.errors import ModelError


def describe(path: Path) -> dict[str, Any]:
    """What the bundle is, as values that go into JSON; every digest in it has been checked.

    `digest` is the manifest's, by which the release is known everywhere.
    Raises `BundleUnreadable`.
    """
    try:
        with open_bundle(path) as bundle:
            bundle.check()
            return _describe(bundle, path)
    except OSError as error:
        reason = error.strerror or "cannot be read"
        raise BundleUnreadable(f"{path}: {reason}; check the path of the bundle") from error
    except (ModelError, ContractError) as error:
        raise BundleUnreadable(
            f"{path}: {error}; convert the model again, or copy the bundle again"
        ) from error


def _describe(bundle: Bundle, path: Path) -> dict[str, Any]:
    manifest = bundle.manifest
    return {
        "family": manifest.family,
        "version": manifest.version,
        "target": manifest.target,
        "digest": digest_of(bundle.manifest_bytes),
        "bytes": path.stat().st_size,
        "signed": bool(bundle.trust()),
        "trust": sorted(bundle.trust()),
        "source": msgspec.to_builtins(manifest.source),
        "gate": msgspec.to_builtins(manifest.gate),
        "labels": list(manifest.labels),
        "device_classes": list(manifest.device_classes),
        "produced_by": manifest.produced_by,
        "variants": [_variant(variant) for variant in manifest.variants],
        "hub_files": [_file(ref) for ref in manifest.hub_files],
    }


def _variant(variant: Variant) -> dict[str, Any]:
    return {
        "name": variant.name,
        "runtime": variant.runtime,
        "requires": msgspec.to_builtins(variant.requires),
        "inputs": [_tensor(spec) for spec in variant.inputs],
        "outputs": [_tensor(spec) for spec in variant.outputs],
        "evidence": dict(sorted(variant.evidence.items())),
        "model": _file(variant.model),
        "golden": _file(variant.golden),
        "profile": _file(variant.profile),
    }


def _tensor(spec: TensorSpec) -> dict[str, Any]:
    shape = ["N" if size == -1 else size for size in spec.shape]
    return {"name": spec.name, "dtype": spec.dtype, "shape": shape}


def _file(ref: FileRef) -> dict[str, Any]:
    chunks = ref.chunks.count if ref.chunks is not None else 0
    return {"path": ref.path, "length": ref.length, "digest": ref.digest, "chunks": chunks}
