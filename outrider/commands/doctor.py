"""`outrider doctor`: looks at this machine and says what works, what does not, and the way out."""

from __future__ import annotations

import importlib.util
import platform
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import typer
from rich.text import Text

from outrider.boundary import one_line
from outrider.commands.options import Config, Json, connect
from outrider.errors import CommandFailed
from outrider.operator import operator_path
from outrider.settings import read_environment
from outrider.terminal import OUT, counted, print_json

PARTS = {
    "converter": ("onnx", "onnxruntime", "numpy", "tuf"),
    "agent": ("onnxruntime", "paho.mqtt", "tuf", "psutil", "uvicorn", "httptools", "zstandard"),
    "hub": ("fastapi", "sqlalchemy", "alembic", "paho.mqtt", "tuf", "uvicorn"),
    "demo": ("matplotlib", "sklearn", "tritonclient"),
}
SERVER_ANSWERS_S = 5.0
MARKS = {"ok": "green", "absent": "dim", "warning": "yellow", "failed": "red"}


class Finding(NamedTuple):
    """One thing looked at. `verdict`: ok, absent (not set up here), warning or failed."""

    name: str
    verdict: str
    detail: str


def doctor(
    state: Annotated[
        Path | None, typer.Option("--state", metavar="DIR", help="The device's state directory.")
    ] = None,
    config: Config = None,
    json: Json = False,
) -> None:
    """Check this machine, the hub's health and the device's.

    Exit code 1 when something that is set up does not work.

    \b
    Example:
        outrider doctor
    """
    directory = state or read_environment().agent_state
    named = config is not None
    findings = [*_machine(), *_hub(operator_path(config), named=named), *_device(directory)]
    if json:
        print_json([finding._asdict() for finding in findings])
    else:
        for finding in findings:
            verdict = (f"{finding.verdict:<8}", MARKS[finding.verdict])
            OUT.print(Text.assemble(verdict, f" {finding.name}: {finding.detail}"))
    if any(finding.verdict == "failed" for finding in findings):
        raise typer.Exit(1)


def _machine() -> Iterator[Finding]:
    fits = (3, 10) <= sys.version_info < (3, 14)
    version = platform.python_version()
    yield Finding("python", "ok" if fits else "failed", f"{version} on {platform.machine()}")
    for part, modules in PARTS.items():
        missing = [name for name in modules if not _installed(name)]
        if missing:
            detail = f"not installed ({', '.join(missing)}): pip install 'outrider[{part}]'"
            yield Finding(part, "absent", detail)
        else:
            yield Finding(part, "ok", "installed")
    if _installed("sqlalchemy"):
        yield _mosquitto()


def _mosquitto() -> Finding:
    from fleet.broker import find_mosquitto
    from fleet.errors import FleetError

    try:
        return Finding("broker", "ok", str(find_mosquitto()))
    except FleetError as error:
        return Finding("broker", "absent", one_line(error))


def _hub(path: Path, *, named: bool) -> Iterator[Finding]:
    """A configuration that was named is one that should be there."""
    if not path.exists():
        verdict = "failed" if named else "absent"
        yield Finding("hub", verdict, f"no operator configuration at {path}")
        return
    try:
        with connect(path) as hub:
            status: dict[str, Any] = hub.get("status")
    except CommandFailed as error:
        yield Finding("hub", "failed", one_line(error))
        return
    devices = status["devices"]
    enrolled = counted(devices["enrolled"], "device")
    counts = f"{devices['alive']} of {enrolled} alive, {counted(status['releases'], 'release')}"
    yield Finding("hub", "ok", f"{status['hub']} {status['version']}: {counts}")
    for problem in status["problems"]:
        yield Finding("hub", "warning", problem)


def _device(directory: Path) -> Iterator[Finding]:
    try:
        enrolled = (directory / "identity").is_dir()
    except OSError as error:
        # The service's user owns a device's state; the other findings are worth having without it.
        detail = f"{directory}: {error.strerror}: ask as the user that owns it"
        yield Finding("device", "warning", detail)
        return
    if not enrolled:
        yield Finding("device", "absent", f"no identity in {directory}")
        return
    from agent.errors import DeviceError
    from agent.status import read_status

    try:
        status = read_status(directory)
    except (DeviceError, OSError) as error:
        yield Finding("device", "failed", one_line(error))
        return
    yield Finding("device", "ok", f"{status.get('device')}: the daemon runs")
    yield _inference(directory, str(status.get("server", "")))


def _inference(directory: Path, told: str) -> Finding:
    """Asks the server itself: the daemon sees only one that it started."""
    from agent.errors import DeviceError
    from agent.serving.client import ServerClient
    from agent.serving.protocol import control_socket

    try:
        ServerClient(control_socket(directory), timeout_s=SERVER_ANSWERS_S).status()
    except DeviceError as error:
        if isinstance(error.__cause__, PermissionError):
            detail = f"the daemon says: {told}; ask as the user that owns {directory} to be sure"
            verdict = "failed" if told.startswith("down") else "warning"
            return Finding("inference", verdict, detail)
        said = f" (the daemon says: {told})" if told.startswith("down") else ""
        where = "`journalctl -u outrider-inference`, or the daemon's log"
        return Finding("inference", "failed", f"{one_line(error)}{said}: see {where}")
    return Finding("inference", "ok", "the server answers")


def _installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:
        return False
