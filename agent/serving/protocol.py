"""What the control process and the inference server say to each other, as frozen structs.

JSON over the control socket `S/run/control.sock`. Both ends come from the same installation, so
there is no version here; every field is bounded all the same. This file carries out nothing.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta

from contract.deployments import Cause
from contract.ids import Digest, Id, TargetName, TimeMs
from contract.messages import BootId, Count, Detail, DriftWindow, Histogram, Text

MAX_CONTROL_BYTES = 64 * 1024
"""A request on the control socket is longer than this only by mistake."""
MAX_ANSWER_BYTES = 16 * 1024 * 1024
"""So that a client never reads without end."""
MAX_PROBE_SAMPLES = 256
SERVER_LOCK = "server.lock"
"""In `S/run`: held by the server, whose process id it contains."""


def control_socket(state_dir: Path) -> Path:
    """Where the control process steers the server."""
    return state_dir / "run" / "control.sock"


def inference_socket(state_dir: Path) -> Path:
    """Where local programs may ask for inference without TCP."""
    return state_dir / "run" / "inference.sock"


def http_file(state_dir: Path) -> Path:
    """Where the server says on which TCP port it listens."""
    return state_dir / "run" / "http.json"


class HttpFile(msgspec.Struct, frozen=True):
    """`S/run/http.json`, written when the server is ready."""

    port: Annotated[int, Meta(ge=0, le=65_535)]
    pid: Count


class ServedModel(msgspec.Struct, frozen=True, kw_only=True):
    """The model that answers a family's requests right now."""

    digest: Digest
    target: TargetName
    variant: Text
    since_ms: TimeMs
    fallback: bool = False
    """Whether this is `previous` of serving.json, because `current` could not be served."""
    reason: Detail = ""
    """Why it fell back."""
    fallback_cause: Cause | None = None


class Candidate(msgspec.Struct, frozen=True, kw_only=True):
    """A model that is loaded beside the serving one, and answers nobody yet."""

    family: Id
    digest: Digest
    target: TargetName
    variant: Text
    load_ms: float = 0.0


class ServerStatus(msgspec.Struct, frozen=True, kw_only=True):
    """GET /status."""

    boot: BootId
    """New for each life of the server process; counters start at zero with it."""
    pid: Count
    rss_bytes: Count
    port: Count
    families: dict[Id, ServedModel] = {}
    candidates: list[Candidate] = []
    unserved: dict[Id, Detail] = {}
    """Families of serving.json for which neither entry could be loaded, and why."""


class ModelCounters(msgspec.Struct, frozen=True, kw_only=True):
    """What one served model did since it began to serve in this life of the server.

    One request is one inference, whatever its batch; drift counts rows. inferences = good +
    errors + invalid.
    """

    digest: Digest
    profile: Digest
    inferences: Count = 0
    good: Count = 0
    errors: Count = 0
    """The runtime failed."""
    invalid: Count = 0
    """The outputs hold NaN or Inf."""
    refused: Count = 0
    """Requests that do not fit the model's inputs (400); not in `inferences`."""
    probes: Count = 0
    """Golden samples run for lack of traffic; in no other count."""
    latency_counts: Histogram = []
    """Runtime calls over model.latency's bins."""
    latency_max_ms: float = 0.0
    drift: DriftWindow | None = None
    longest_constant_run: Count = 0
    """The longest run of rows whose outputs equal their predecessor's while the inputs differ."""
    last_error: Detail = ""


class ServerCounters(msgspec.Struct, frozen=True, kw_only=True):
    """GET /counters."""

    boot: BootId
    families: dict[Id, ModelCounters] = {}
    retired: dict[Id, ModelCounters] = {}
    """The last counts of each family's predecessor: what its final window and a baseline need."""


class LoadRequest(msgspec.Struct, frozen=True, kw_only=True):
    """POST /load."""

    family: Id
    digest: Digest
    directory: Annotated[str, Meta(min_length=1, max_length=4096)]
    variant: Id


class ModelRequest(msgspec.Struct, frozen=True, kw_only=True):
    """POST /activate and POST /unload."""

    family: Id
    digest: Digest


class Activated(msgspec.Struct, frozen=True, kw_only=True):
    """The answer to /activate."""

    digest: Digest
    changed: bool
    """False when this digest served already."""
    replaced: Digest | None
    swap_ms: float


class ProbeRequest(msgspec.Struct, frozen=True, kw_only=True):
    """POST /probe: run so many golden samples through the serving model."""

    family: Id
    samples: Annotated[int, Meta(ge=1, le=MAX_PROBE_SAMPLES)] = 16


class Probed(msgspec.Struct, frozen=True, kw_only=True):
    """The answer to /probe."""

    digest: Digest
    samples: Count
    passed: bool
    agreement: float
    max_error: float
    p95_ms: float
    reason: Detail = ""


class ControlError(msgspec.Struct, frozen=True, kw_only=True):
    """The answer to whatever could not be done."""

    cause: Cause
    detail: Detail = ""
