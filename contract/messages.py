"""The messages on the wire, one frozen struct a kind. JSON; unknown fields are ignored.

Every field that another program fills is bounded here, so that a decoded message is a safe one.
The golden bytes of each kind stand in tests/contract/golden/ and are checked by both ends.
"""

from __future__ import annotations

import enum
from typing import Annotated

import msgspec
from msgspec import Meta, field

from contract.deployments import Cause, Evidence, Mode, Outcome, Phase
from contract.ids import Digest, Id, TargetName, TimeMs

WIRE_VERSION = 1
"""The schema version of every message below. The hub speaks this one and the one before."""

Text = Annotated[str, Meta(max_length=200)]
Detail = Annotated[str, Meta(max_length=600)]
Count = Annotated[int, Meta(ge=0, le=1 << 53)]
MeteredBytes = Annotated[int, Meta(ge=1, le=1 << 40)]
Seq = Annotated[int, Meta(ge=0, le=1 << 53)]
BootId = Annotated[str, Meta(pattern=r"^[0-9a-f]{32}\Z")]
Figures = Annotated[dict[Annotated[str, Meta(max_length=48)], float], Meta(max_length=48)]
Histogram = Annotated[list[Count], Meta(max_length=1024)]
MAX_FAMILIES = 32


class Message(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind"):
    """What every message carries: the kind (its tag) and the schema version `v`."""

    v: int = WIRE_VERSION


class Stamp(msgspec.Struct, frozen=True):
    """When something was seen. `mono_ms` orders events within one `boot` whatever the clock did."""

    boot: BootId
    mono_ms: Count
    at_ms: TimeMs
    clock_trusted: bool


class Hardware(msgspec.Struct, frozen=True, kw_only=True):
    """What the device is, as far as the choice of a variant needs it."""

    machine: Text
    model: Text = ""
    device_class: Id = "generic"
    cpus: Count = 1
    memory_bytes: Count = 0
    accelerators: Annotated[list[Text], Meta(max_length=16)] = []
    runtimes: Annotated[dict[Text, Text], Meta(max_length=8)] = {}
    """Runtime name (`onnxruntime`, `litert`, `tflite-runtime`) -> installed version."""


class Birth(Message, frozen=True, kw_only=True, tag="birth"):
    """Retained on connect: who is here and what it speaks."""

    device: Id
    session: BootId
    agent: Text
    wire: Annotated[list[int], Meta(min_length=1, max_length=8)]
    hardware: Hardware
    stamp: Stamp


class Death(Message, frozen=True, kw_only=True, tag="death"):
    """The will: advisory only, since a broker may also send it for a live device."""

    device: Id
    session: BootId


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """How the deployment bound to (seq, family, digest) ended."""

    seq: Seq
    target: TargetName
    digest: Digest
    outcome: Outcome
    cause: Cause | None = None
    detail: Detail = ""
    at_ms: TimeMs = 0


class Waiting(msgspec.Struct, frozen=True):
    """Why a fetch is not getting on, and in words."""

    cause: Cause
    detail: Detail = ""


class FamilyState(msgspec.Struct, frozen=True, kw_only=True):
    """One family on one device; `serving` is the digest that answers requests right now."""

    phase: Phase
    serving: Digest | None = None
    target: TargetName | None = None
    variant: Text = ""
    hold: bool = False
    good_inferences: Count = 0
    """Good inferences of `serving` since it began to serve."""
    last: Result | None = None
    waits: Waiting | msgspec.UnsetType = msgspec.UNSET
    """Absent unless a fetch is tried again and again."""


class State(Message, frozen=True, kw_only=True, tag="state"):
    """Reported state, retained and signed by the device."""

    device: Id
    stamp: Stamp
    assignment_seq: Seq
    families: Annotated[dict[Id, FamilyState], Meta(max_length=MAX_FAMILIES)] = {}
    tuf_versions: Annotated[dict[Text, Count], Meta(max_length=64)] = {}
    outbox_pending: Count = 0
    outbox_dropped: Count = 0
    free_bytes: Count = 0
    heartbeat_s: Count = 900


class Event(Message, frozen=True, kw_only=True, tag="event"):
    """One step of a deployment, signed by the device; `seq` is the outbox's number."""

    device: Id
    seq: Seq
    stamp: Stamp
    family: Id
    target: TargetName
    digest: Digest
    rollout: Id | None = None
    assignment_seq: Seq = 0
    phase: Phase
    outcome: Outcome | None = None
    cause: Cause | None = None
    detail: Detail = ""
    figures: Figures = {}
    """Measured: bytes_fetched, bytes_full, chunks_reused, trial_p95_ms, swap_ms, ..."""


class Reply(Message, frozen=True, kw_only=True, tag="reply"):
    """The answer to a command, signed by the device, in the event channel."""

    device: Id
    seq: Seq
    stamp: Stamp
    command: Id
    ok: bool
    detail: Detail = ""


class InferenceWindow(msgspec.Struct, frozen=True, kw_only=True):
    """What one served digest did in one window. Latency is of the runtime call alone, in ms."""

    digest: Digest
    inferences: Count
    errors: Count = 0
    invalid: Count = 0
    """Answers with NaN or Inf."""
    probes: Count = 0
    """Golden samples run for lack of traffic; not counted in `inferences`."""
    latency_ms_p50: float = 0.0
    latency_ms_p95: float = 0.0
    latency_ms_max: float = 0.0
    latency_counts: Histogram = []
    """Counts over model.latency's fixed bins, so that windows and devices add exactly."""


class FeatureCounts(msgspec.Struct, frozen=True, kw_only=True):
    """Counts of one feature over the reference profile's bins; they add over time and devices."""

    bins: Histogram
    n: Count
    missing: Count = 0
    below: Count = 0
    above: Count = 0
    longest_run: Count = 0


class DriftWindow(msgspec.Struct, frozen=True, kw_only=True):
    """Counts against one reference profile; only windows of the same profile may be added."""

    digest: Digest
    profile: Digest
    features: Annotated[dict[Text, FeatureCounts], Meta(max_length=256)]
    classes: Histogram = []
    confidence: FeatureCounts | None = None
    entropy: FeatureCounts | None = None


class ResourceWindow(msgspec.Struct, frozen=True, kw_only=True):
    """psutil's view of the device over the window."""

    cpu_percent: float
    memory_available_bytes: Count
    rss_control_bytes: Count
    rss_server_bytes: Count
    disk_free_bytes: Count
    temperature_c: float | None = None
    throttled: bool = False
    load_1m: float = 0.0


class Report(Message, frozen=True, kw_only=True, tag="report"):
    """One window of measurements. `stamp` is the window's end."""

    device: Id
    seq: Seq
    stamp: Stamp
    window_ms: Count
    inference: Annotated[dict[Id, InferenceWindow], Meta(max_length=MAX_FAMILIES)] = {}
    drift: Annotated[dict[Id, DriftWindow], Meta(max_length=MAX_FAMILIES)] = {}
    resources: ResourceWindow | None = None


class Want(Message, frozen=True, kw_only=True, tag="want"):
    """Blobs that the device needs for `target` and that the broker does not hold."""

    device: Id
    target: TargetName
    blobs: Annotated[list[Digest], Meta(min_length=1, max_length=128)]


class ProbationPolicy(msgspec.Struct, frozen=True, kw_only=True):
    """How a candidate earns its commit on live traffic. Times in seconds, rates in 0..1."""

    min_inferences: Count = 200
    window_s: Annotated[int, Meta(ge=1, le=7 * 86_400)] = 600
    """After this long without `min_inferences` the outcome is UNPROVEN (evidence live)."""
    evidence: Evidence = Evidence.LIVE
    max_error_rate: float = 0.01
    max_class_share: float = 0.9
    """One class above this share of the answers is a collapse (unless it was so before)."""
    max_class_distance: float = 0.5
    """Total variation between the class mix of the candidate and of its predecessor."""
    max_out_of_range: float = 0.25
    """Largest share of one feature's live values outside the calibrated range."""
    max_latency_ratio: float = 3.0
    """p95 against the trial's p95 on the same device."""


class FamilyAssignment(msgspec.Struct, frozen=True, kw_only=True):
    """What the hub wants one family of one device to be."""

    target: TargetName
    digest: Digest
    rollout: Id
    mode: Mode = Mode.SERVE
    deadline_ms: TimeMs = 0
    """0: none."""
    probation: ProbationPolicy = field(default_factory=ProbationPolicy)
    metered_bytes: MeteredBytes | msgspec.UnsetType = msgspec.UNSET
    """What fetching it may cost, in bytes before compression; absent: the device's own bound alone.
    Agents that do not know the field go by their own bound, too."""


class Assignment(Message, frozen=True, kw_only=True, tag="assignment"):
    """Desired state, retained, signed by the hub. A family that is absent keeps what it has."""

    device: Id
    seq: Seq
    issued_at_ms: TimeMs
    expires_at_ms: TimeMs
    families: Annotated[dict[Id, FamilyAssignment], Meta(max_length=MAX_FAMILIES)] = {}


class Verb(enum.Enum):
    """What the hub may ask of a device at once."""

    ROLLBACK = "rollback"
    RELEASE_HOLD = "release-hold"
    REPORT = "report"
    RENEW = "renew"
    """Ask for the next certificate now, since the hub goes to another CA."""


class Command(Message, frozen=True, kw_only=True, tag="command"):
    """A request with an expiry, signed by the hub; executed at most once per `id`."""

    device: Id
    id: Id
    verb: Verb
    family: Id | None = None
    issued_at_ms: TimeMs
    expires_at_ms: TimeMs


class Acked(msgspec.Struct, frozen=True):
    """Outbox rows of one boot that the hub has committed."""

    boot: BootId
    seqs: Annotated[list[Seq], Meta(max_length=512)]


class Ack(Message, frozen=True, kw_only=True, tag="ack"):
    """Sent after the hub's commit; only then may the device forget these rows."""

    device: Id
    acked: Annotated[list[Acked], Meta(max_length=16)]


class Epoch(Message, frozen=True, kw_only=True, tag="epoch"):
    """Which hub filled this broker's memory, and in which life of the broker."""

    hub: Id
    epoch: BootId
    at_ms: TimeMs


class TufFile(msgspec.Struct, frozen=True):
    """A hint: the length in bytes and the digest of one metadata file."""

    length: Count
    digest: Digest


class TufIndex(Message, frozen=True, kw_only=True, tag="tuf-index"):
    """The TUF files that exist, unsigned: what is not listed is answered with 404."""

    files: Annotated[dict[Text, TufFile], Meta(max_length=4096)]
    at_ms: TimeMs
