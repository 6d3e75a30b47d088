"""Measures the variants of a bundle, one child process each, so that none pays for another.

Owns which variants are tried, the throw-away installation, and what a child's end means. The
bundle is only read; nothing of it is believed before its digests are.
"""

from __future__ import annotations

import platform
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import msgspec

from contract.errors import NoVariantFits
from contract.ids import digest_of
from contract.manifest import Manifest, Variant
from contract.messages import Hardware
from contract.variants import choose_variant, why_not
from model.archive import Bundle, open_bundle
from model.bench.measure import Measured
from model.errors import InvalidBench, NoSuchVariant
from model.installed import FILES_DIRECTORY, MANIFEST_FILE
from model.runtimes import installed_runtimes

MAX_RUNS = 1_000_000
MAX_THREADS = 256
LIFETIME_S = 600
_MAX_REPORT_BYTES = 64 * 1024
_ROOT = Path(__file__).resolve().parents[2]
# As `python -m model.bench`, which would look into the working directory first: many a training
# project has a model.py, or a folder of that name.
_CHILD = """
import sys
sys.path[:] = [path for path in sys.path if path] + [sys.argv.pop(1)]
import runpy
runpy.run_module("model.bench", run_name="__main__", alter_sys=True)
"""


class BenchReport(msgspec.Struct, frozen=True, kw_only=True):
    """The line that a child prints: what it measured, or why it could not."""

    measured: Measured | None = None
    reason: str = ""


@dataclass(frozen=True)
class VariantBench:
    """One variant on this machine. `measured` is None when it does not run here: `reason`."""

    name: str
    runtime: str
    bytes: int
    preferred: bool
    """Whether a device like this machine would choose it."""
    measured: Measured | None
    reason: str


def bench_bundle(
    path: Path,
    variant: str | None = None,
    runs: int = 200,
    threads: int = 1,
    told: Callable[[str], None] | None = None,
    command: tuple[str, ...] = (sys.executable, "-c", _CHILD, str(_ROOT)),
) -> list[VariantBench]:
    """Measure `variant`, or all of them; `told` hears the name of each that is tried.

    Raises `InvalidBench`, `NoSuchVariant`, what `open_bundle` and `Bundle.read` raise, `OSError`.
    """
    _check(runs, threads)
    with open_bundle(path) as bundle:
        chosen = _chosen(bundle.manifest, variant)
        preferred = _preferred(bundle.manifest)
        sized = (*command, "--runs", str(runs), "--threads", str(threads))
        found = []
        for each in chosen:
            # Asked for by name, it is tried whatever the manifest says of its needs.
            reason = why_not(each, _hardware()) if variant is None else None
            if reason is None and told is not None:
                told(each.name)
            report = BenchReport(reason=reason) if reason else _in_child(bundle, each, sized)
            found.append(_told_of(each, report, each.name == preferred))
    return found


def _told_of(variant: Variant, report: BenchReport, preferred: bool) -> VariantBench:
    return VariantBench(
        name=variant.name,
        runtime=variant.runtime,
        bytes=variant.model.length,
        preferred=preferred,
        measured=report.measured,
        reason=report.reason,
    )


def _check(runs: int, threads: int) -> None:
    if not 1 <= runs <= MAX_RUNS:
        raise InvalidBench(f"{runs} runs; 1 to {MAX_RUNS}")
    if not 1 <= threads <= MAX_THREADS:
        raise InvalidBench(f"{threads} threads; 1 to {MAX_THREADS}")


def _chosen(manifest: Manifest, name: str | None) -> list[Variant]:
    if name is None:
        return list(manifest.variants)
    found = [variant for variant in manifest.variants if variant.name == name]
    if not found:
        known = ", ".join(variant.name for variant in manifest.variants)
        raise NoSuchVariant(f"{manifest.target} has no variant {name[:80]!r}; it has {known}")
    return found


def _preferred(manifest: Manifest) -> str | None:
    try:
        return choose_variant(manifest, _hardware()).name
    except NoVariantFits:
        return None


def _hardware() -> Hardware:
    return Hardware(machine=platform.machine(), runtimes=installed_runtimes())


def _in_child(bundle: Bundle, variant: Variant, command: tuple[str, ...]) -> BenchReport:
    with tempfile.TemporaryDirectory(prefix="outrider-bench-") as name:
        directory = Path(name)
        _install(bundle, variant, directory)
        digest = digest_of(bundle.manifest_bytes)
        arguments = ["--directory", name, "--variant", variant.name, "--digest", digest]
        with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as complaints:
            child = subprocess.Popen(
                [*command, *arguments], stdin=subprocess.DEVNULL, stdout=out, stderr=complaints
            )
            try:
                child.wait(LIFETIME_S)
            except subprocess.TimeoutExpired:
                return BenchReport(reason=f"not done after {LIFETIME_S} s")
            finally:
                if child.poll() is None:
                    child.kill()
                child.wait()
            return _judged(child.returncode, _tail(out), _tail(complaints))


def _install(bundle: Bundle, variant: Variant, directory: Path) -> None:
    """Lay the variant out as on a device; the manifest's paths cannot leave the directory."""
    (directory / MANIFEST_FILE).write_bytes(bundle.manifest_bytes)
    for ref in (variant.model, variant.golden, variant.profile):
        path = directory / FILES_DIRECTORY / ref.path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(bundle.read(ref))


def _judged(code: int, out: bytes, complaints: bytes) -> BenchReport:
    if code < 0:
        name = signal.Signals(-code).name
        return BenchReport(reason=f"the runtime died of {name}: {_last_line(complaints)}")
    try:
        return msgspec.json.decode(out, type=BenchReport)
    except (msgspec.MsgspecError, ValueError):
        return BenchReport(reason=f"ended with {code} and no report: {_last_line(complaints)}")


def _tail(file: IO[bytes]) -> bytes:
    size = file.seek(0, 2)
    file.seek(max(0, size - _MAX_REPORT_BYTES))
    return file.read(_MAX_REPORT_BYTES)


def _last_line(text: bytes) -> str:
    lines = text.decode(errors="replace").strip().splitlines()
    return lines[-1][:200] if lines else "it said nothing"
