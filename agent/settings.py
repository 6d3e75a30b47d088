"""The agent's settings: read once at the start, checked, and frozen.

The command line wins over the environment (`OUTRIDER_...`), that over `agent.json` in the state
directory, and that over the defaults. No other file reads the environment.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from agent.errors import DeviceError

STATE_DIR = Path("/var/lib/outrider")
_PREFIX = "OUTRIDER_"
_MAX_FILE_BYTES = 65_536

Seconds = Annotated[float, Meta(ge=0.05, le=7 * 86_400)]


class BadSettings(DeviceError):
    """A setting is not one that the agent can start with; the message names it and its source."""


class AgentSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Each field is `OUTRIDER_` and its name in capitals in the environment."""

    state_dir: Path = STATE_DIR
    http_host: Annotated[str, Meta(min_length=1, max_length=253)] = "127.0.0.1"
    http_port: Annotated[int, Meta(ge=0, le=65_535)] = 8080
    """0: any free port; `run/http.json` says which."""
    http_token_file: Path | None = None
    report_seconds: Seconds = 300.0
    heartbeat_seconds: Seconds = 900.0
    refresh_seconds: Seconds = 3 * 3600.0
    """How often signed metadata is refreshed when nothing asks for it."""
    refresh_spread_seconds: Annotated[float, Meta(ge=0, le=86_400)] = 600.0
    """Refreshes of a fleet are spread over this long, so that a hub's publish is no stampede."""
    tick_seconds: Seconds = 1.0
    """How often deployments, the server and the status file are looked after."""
    outbox_bytes: Annotated[int, Meta(ge=1 << 20, le=1 << 34)] = 16 << 20
    max_bytes_per_second: Annotated[int, Meta(ge=0, le=1 << 34)] = 0
    """How fast releases are fetched; 0: as fast as it goes."""
    metered_bytes_per_release: Annotated[int, Meta(ge=0, le=1 << 40)] = 0
    """The most that fetching one release may cost, before compression; 0: no bound. A release that
    would cost more waits, with cause `metered`, before its first chunk is fetched."""
    https_above_bytes: Annotated[int, Meta(ge=0, le=1 << 40)] = 64 << 20
    """What is larger than this, before compression, is fetched from the hub over HTTPS, and not
    from the broker; 0: everything is."""
    object_store_ca_file: Path | None = None
    """CAs that vouch for the hub's object store, in PEM; otherwise the system's do."""
    object_store_plain: bool = False
    """Whether an object store without TLS will do. Digests are checked all the same."""
    ack_seconds: Seconds = 10.0
    """How long an outbox row waits for its first ack before it is sent again."""
    server: bool = True
    """Whether the agent starts the inference server itself, or leaves it to its own unit."""
    log_level: Annotated[str, Meta(pattern=r"^(debug|info|warning|error)\Z")] = "info"
    notify_socket: str = ""


def read_settings(
    arguments: Mapping[str, Any] | None = None, environ: Mapping[str, str] | None = None
) -> AgentSettings:
    """Merge the sources; raises `BadSettings`. `arguments` holds what the command line gave."""
    environ = os.environ if environ is None else environ
    given = {name: value for name, value in (arguments or {}).items() if value is not None}
    from_environment = _from_environment(environ)
    state_dir = Path(given.get("state_dir") or from_environment.get("state_dir") or STATE_DIR)
    from_file = _from_file(state_dir / "agent.json")
    merged = {**from_file, **from_environment, **given, "state_dir": str(state_dir.absolute())}
    return _check(merged, "the settings")


def _from_environment(environ: Mapping[str, str]) -> dict[str, str]:
    names = {field: _PREFIX + field.upper() for field in AgentSettings.__struct_fields__}
    found = {field: environ[name] for field, name in names.items() if environ.get(name)}
    if environ.get("NOTIFY_SOCKET"):
        found["notify_socket"] = environ["NOTIFY_SOCKET"]
    for field, value in found.items():
        _check({field: value}, f"the environment's {names[field]}")
    return found


def _from_file(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            data = file.read(_MAX_FILE_BYTES + 1)
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise BadSettings(f"cannot read {path}: {error.strerror}") from error
    if len(data) > _MAX_FILE_BYTES:
        raise BadSettings(f"{path} is longer than {_MAX_FILE_BYTES} bytes")
    try:
        found = msgspec.json.decode(data, type=dict[str, Any])
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise BadSettings(f"{path} is not a JSON object: {error}") from error
    found.pop("state_dir", None)  # the file stands in it
    _check(found, str(path))
    return found


def _check(values: Mapping[str, Any], source: str) -> AgentSettings:
    try:
        # strict=False: the environment and the command line give text for numbers.
        return msgspec.convert(dict(values), AgentSettings, strict=False, dec_hook=_path)
    except (msgspec.MsgspecError, ValueError) as error:
        raise BadSettings(f"{source}: {error}") from error


def _path(kind: type, value: object) -> object:
    if kind is Path and isinstance(value, (str, Path)):
        return Path(value)
    raise NotImplementedError(f"no conversion to {kind}")
