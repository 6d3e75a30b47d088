"""A bundle described in plain values, for `outrider inspect`. Reads and checks; changes nothing.

Digests are checked, signatures are not: that is the business of the hub and the devices, which
know whose keys to believe.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from contract.errors import ContractError
from contract.ids import digest_of
from contract.manifest import FileRef, TensorSpec, Variant
from converter.errors import BundleUnreadable
from converter.measurement import places
from converter.report import EvaluationReport, decode_report
from converter.report_files import JSON_PATH
from model.archive import Bundle, open_bundle
from model.errors import ModelError

T = TypeVar("T")


MAX_REPORT_BYTES = 16 << 20
MAX_SIGNATURES = 16
MAX_MEASUREMENTS = 16


class _Signature(msgspec.Struct, frozen=True):
    keyid: str


class _Signed(msgspec.Struct, frozen=True, kw_only=True):
    version: int
    expires: str


class _Metadata(msgspec.Struct, frozen=True):
    """The little of a TUF file that is shown."""

    signatures: list[_Signature]
    signed: _Signed


def describe(path: Path) -> dict[str, Any]:
    """What the bundle is, as values that go into JSON; every digest in it has been checked.

    `digest` is the manifest's, by which the release is known everywhere. `report` is None where
    the bundle has none that this program reads. Raises `BundleUnreadable`.
    """
    return _opened(path, lambda bundle: _describe(bundle, path))


def read_report(path: Path) -> EvaluationReport:
    """The evaluation report of a bundle; raises `BundleUnreadable`, also when it has none."""
    found = _opened(path, _report)
    if found is None:
        raise BundleUnreadable(f"{path}: no report.json that this program reads; convert again")
    return found


def _opened(path: Path, look: Callable[[Bundle], T]) -> T:
    try:
        with open_bundle(path) as bundle:
            bundle.check()
            return look(bundle)
    except OSError as error:
        reason = error.strerror or "cannot be read"
        raise BundleUnreadable(f"{path}: {reason}; check the path of the bundle") from error
    except (ModelError, ContractError) as error:
        said = str(error)
        rest = said.removeprefix(path.name)
        named = f"{path}: {said}" if rest == said else f"{path}{rest}"
        raise BundleUnreadable(
            f"{named}; convert the model again, or copy the bundle again"
        ) from error


def _describe(bundle: Bundle, path: Path) -> dict[str, Any]:
    manifest, report = bundle.manifest, _report(bundle)
    return {
        "family": manifest.family,
        "version": manifest.version,
        "target": manifest.target,
        "digest": digest_of(bundle.manifest_bytes),
        "bytes": path.stat().st_size,
        "signed": bool(bundle.trust()),
        "trust": sorted(bundle.trust()),
        "signatures": [_signatures(name, data) for name, data in sorted(bundle.trust().items())],
        "source": msgspec.to_builtins(manifest.source),
        "gate": msgspec.to_builtins(manifest.gate),
        "labels": list(manifest.labels),
        "device_classes": list(manifest.device_classes),
        "produced_by": manifest.produced_by,
        "variants": [_variant(variant) for variant in manifest.variants],
        "hub_files": [_file(ref) for ref in manifest.hub_files],
        "measured": [] if report is None else places(report.measurements[:MAX_MEASUREMENTS]),
        "report": None if report is None else msgspec.to_builtins(report),
    }


def _report(bundle: Bundle) -> EvaluationReport | None:
    for ref in bundle.manifest.hub_files:
        if ref.path == JSON_PATH and ref.length <= MAX_REPORT_BYTES:
            try:
                return decode_report(bundle.read(ref))
            except (msgspec.MsgspecError, ValueError, RecursionError):
                return None
    return None


def _signatures(name: str, data: bytes) -> dict[str, Any]:
    """Who says to have signed one file of trust, by key id; empty where it is not readable."""
    try:
        found = msgspec.json.decode(data, type=_Metadata)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return {"file": name, "keys": [], "version": None, "expires": None}
    keys = [signature.keyid[:64] for signature in found.signatures[:MAX_SIGNATURES]]
    signed = found.signed
    return {"file": name, "keys": keys, "version": signed.version, "expires": signed.expires[:32]}


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
