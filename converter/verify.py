"""The last look at a variant: through the device's own code, runtime and checks.

Loads the very bytes that ship into `model.runtimes` as an agent would, compares their tensors with
the manifest's, and runs the golden samples. Nothing of the converter's own runners is trusted here.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path

import msgspec

from contract.manifest import Variant
from converter.errors import VerificationFailed
from model.errors import ModelError
from model.golden import decode_golden, run_golden
from model.runtimes import open_session

ELSEWHERE = frozenset({"cuda", "tensorrt"})
"""Accelerators of devices: such a variant is run on this machine's CPU instead."""


def verify(variant: Variant, files: Mapping[str, bytes]) -> None:
    """Run a variant's golden samples as a device does; `files` are the bundle's, by path.

    Raises `VerificationFailed`.
    """
    here = _without_accelerators(variant)
    with tempfile.TemporaryDirectory(prefix="outrider-verify-") as directory:
        path = Path(directory) / Path(variant.model.path).name
        path.write_bytes(files[variant.model.path])
        try:
            session = open_session(here, path)
            try:
                found = run_golden(session, decode_golden(files[variant.golden.path]))
            finally:
                session.close()
        except ModelError as error:
            raise VerificationFailed(
                f"{variant.name}: the runtime that devices use refuses it ({error}); this is a"
                " defect, please report it with the model"
            ) from error
    if not found.passed:
        raise VerificationFailed(
            f"{variant.name}: its golden samples, run again, agree on {100 * found.agreement:.1f} %"
            f" (largest error {found.max_error:.4g}); the model does not answer the same twice"
        )


def _without_accelerators(variant: Variant) -> Variant:
    kept = [a for a in variant.requires.accelerators if a not in ELSEWHERE]
    requires = msgspec.structs.replace(variant.requires, accelerators=kept)
    return msgspec.structs.replace(variant, requires=requires)
