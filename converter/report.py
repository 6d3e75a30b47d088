"""The evaluation report: what went in, what was measured, what was overruled. Stays at the hub.

The only figures of the moment are the measured latencies, which are an input of the conversion and
stand here whole (docs/adr/0018): the same input gives the same bytes.
"""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from contract.manifest import GateRecord, Source
from converter.measurement import Measurement

REPORT_SCHEMA = 1
Count = Annotated[int, Meta(ge=0, le=1 << 53)]
"""So that every count of a report of unknown origin can be reckoned with as a float."""


class InputRange(msgspec.Struct, frozen=True, kw_only=True):
    """The calibrated range of one input and the range that evaluation saw."""

    low: float
    high: float
    evaluation_low: float
    evaluation_high: float


class DataSummary(msgspec.Struct, frozen=True, kw_only=True):
    """The samples that the figures rest on."""

    calibration_samples: Count
    evaluation_samples: Count
    labelled: bool
    held_out: bool
    """Whether the evaluation samples were taken out of the calibration file for want of another."""
    inputs: dict[str, InputRange]


class ModelFigures(msgspec.Struct, frozen=True, kw_only=True):
    """int8 against float32; percent, dB, bytes. Accuracies are absent without labels."""

    agreement: float
    sqnr_db: float
    bytes: Count
    bytes_float32: Count
    accuracy: float | None = None
    accuracy_float32: float | None = None


class Quantiser(msgspec.Struct, frozen=True, kw_only=True):
    """How the int8 model was made, and how many of its layers run in integers."""

    onnxruntime: str
    onnx: str
    activations: str
    weights: str = "int8 per channel"
    ranges: str = "minimum and maximum"
    integer_layers: Count
    float_layers: Count
    notes: list[str] = []
    """What the quantiser warned of."""
    tools: str = ""
    """What made the variants of other formats, with its version."""


class LayerError(msgspec.Struct, frozen=True, kw_only=True):
    """How far one layer's answers are from those of the float model, on the same samples."""

    name: str
    op: str
    sqnr_db: float
    integer: bool = True
    """Whether it runs in integers."""


class FusionAudit(msgspec.Struct, frozen=True, kw_only=True):
    """What the runtime makes of the graph: which layers it runs in integers, and which not."""

    integer: Count
    floating: Count
    left_float: list[str] = []
    """Names of the layers that stayed float, in the order of the graph."""


class ConfusionCell(msgspec.Struct, frozen=True, array_like=True):
    """So many samples of class `label` were answered with class `answer`."""

    label: Count
    answer: Count
    count: Count


class Confusion(msgspec.Struct, frozen=True, kw_only=True):
    """A confusion matrix without its zeros: rows are labels, columns are answers."""

    classes: Count
    cells: list[ConfusionCell]


class Candidate(msgspec.Struct, frozen=True, kw_only=True):
    """One way to quantise that was tried, judged on held-back calibration samples."""

    name: str
    sqnr_db: float
    agreement: float
    bytes: Count = 0
    chosen: bool = False
    note: str = ""


class Coverage(msgspec.Struct, frozen=True, kw_only=True):
    """One tensor's calibrated range, and how much of the evaluation data lies outside of it."""

    tensor: str
    low: float
    high: float
    seen_low: float
    seen_high: float
    outside: float
    """Percent of the values."""


class VariantLatency(msgspec.Struct, frozen=True, kw_only=True):
    """One call on one sample, on the host of the report's measurements; medians in ms.

    Both by turns in one run, so that their ratio holds better than either figure.
    """

    p50_ms: float
    p50_ms_float32: float


class VariantReport(msgspec.Struct, frozen=True, kw_only=True):
    """One variant of the bundle beside the float32 model."""

    name: str
    runtime: str
    bytes: Count
    agreement: float
    sqnr_db: float
    accuracy: float | None = None
    layers: list[LayerError] = []
    fusion: FusionAudit | None = None
    confusion: Confusion | None = None
    latency: VariantLatency | None = None


class EvaluationReport(msgspec.Struct, frozen=True, kw_only=True):
    """`report.json` of a bundle."""

    schema: int = REPORT_SCHEMA
    family: str
    version: str
    source: Source
    data: DataSummary
    figures: ModelFigures
    gate: GateRecord
    quantiser: Quantiser
    labels: list[str] = []
    variants: list[VariantReport] = []
    """In the manifest's order."""
    candidates: list[Candidate] = []
    coverage: list[Coverage] = []
    confusion_float32: Confusion | None = None
    measurements: list[Measurement] = []
    """Every latency that this conversion rested on, also of what did not ship."""


def encode_report(report: EvaluationReport) -> bytes:
    """Readable JSON; equal reports give equal bytes."""
    return msgspec.json.format(msgspec.json.encode(report, order="sorted"), indent=1) + b"\n"


def decode_report(data: bytes) -> EvaluationReport:
    """Parse `report.json`; raises `msgspec.MsgspecError`."""
    return msgspec.json.decode(data, type=EvaluationReport)
