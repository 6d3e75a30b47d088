"""`outrider bench`: what a bundle's variants cost on the machine where it is called."""

from __future__ import annotations

import os
import platform
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import typer

from outrider.boundary import require
from outrider.commands.options import Json
from outrider.terminal import note, print_fields, print_json, print_table

if TYPE_CHECKING:
    from model.bench import VariantBench

DEFAULT_RUNS = 200


def bench(
    bundle: Annotated[Path, typer.Argument(metavar="BUNDLE", help="The bundle to measure.")],
    variant: Annotated[
        str | None, typer.Option(metavar="V", help="Only this variant; else all that run here.")
    ] = None,
    runs: Annotated[
        int, typer.Option(metavar="N", min=1, max=1_000_000, help="Timed calls, within a minute.")
    ] = DEFAULT_RUNS,
    threads: Annotated[
        int, typer.Option(metavar="T", min=1, max=256, help="The runtime's threads.")
    ] = 1,
    json: Json = False,
) -> None:
    """Measure a bundle's variants here: latency, memory, agreement.

    Each variant runs in a process of its own: one sample a call, the first call and the warm-up
    apart. Agreement is with the golden samples: the answers that the variant gave when it was
    made. Exit code 1 when a variant that ran does not pass them, or none could run.

    \b
    Example:
        outrider bench digits-1.bundle --runs 1000
    """
    require("agent", "numpy", "zstandard")
    from model.bench import bench_bundle

    found = bench_bundle(bundle, variant, runs, threads, lambda name: note(f"measuring {name} ..."))
    if json:
        print_json({"host": _host(), "variants": [_plain(each) for each in found]})
    else:
        _show(found)
    ran = [each.measured for each in found if each.measured is not None]
    if not ran or not all(measured.passed for measured in ran):
        raise typer.Exit(1)


def _host() -> dict[str, Any]:
    from model.runtimes import installed_runtimes

    return {
        "machine": platform.machine(),
        "system": platform.system(),
        "cpus": os.cpu_count(),
        "python": platform.python_version(),
        "runtimes": installed_runtimes(),
    }


def _plain(each: VariantBench) -> dict[str, Any]:
    return {**asdict(each), "measured": msgspec.to_builtins(each.measured)}


def _show(found: list[VariantBench]) -> None:
    host = _host()
    runtimes = ", ".join(f"{name} {version}" for name, version in host["runtimes"].items())
    print_fields({"here": f"{host['machine']}, {host['cpus']} CPUs; {runtimes or 'no runtime'}"})
    print_table(
        ("variant", "p50 ms", "p95", "p99", "first", "load", "MiB", "peak", "agrees"),
        [_row(each) for each in found if each.measured is not None],
        "no variant could be measured here",
    )
    for each in found:
        if each.measured is None:
            note(f"{each.name}: {each.reason}")
        elif not each.measured.passed:
            note(f"{each.name}: does not pass its golden samples: {each.measured.reason}")
    if any(each.preferred for each in found):
        note("*: what a device like this machine would run")
    note("MiB, peak: resident memory that the model takes once loaded, and at most;")
    note("the runtime's own comes on top")


def _row(each: VariantBench) -> tuple[str, ...]:
    measured = each.measured
    assert measured is not None  # noqa: S101 - narrows the type; the caller has looked
    latency, memory = measured.latency, measured.memory
    return (
        each.name + (" *" if each.preferred else ""),
        f"{latency.p50_ms:.3f}",
        f"{latency.p95_ms:.3f}",
        f"{latency.p99_ms:.3f}",
        f"{measured.first_ms:.3f}",
        f"{measured.load_ms:.1f}",
        _mib(memory.model),
        _mib(memory.peak),
        f"{100 * measured.agreement:.1f} % of {measured.samples}",
    )


def _mib(count: int) -> str:
    return f"{count / (1 << 20):.1f}"
