"""What the demo measured, as plain values for the report."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Conversion:
    """One conversion: int8 against float32. Accuracy in percent, latency in ms, sizes in bytes."""

    version: str
    bytes_int8: int
    bytes_float32: int
    accuracy_int8: float
    accuracy_float32: float
    p50_ms_int8: float
    p50_ms_float32: float


@dataclass(frozen=True)
class Served:
    """What one device answered over the held-out scans."""

    device: str
    version: str
    accuracy: float
    p50_ms: float
    p95_ms: float


@dataclass(frozen=True)
class Fetched:
    """What an update cost one device, in bytes on the wire, against the whole release."""

    device: str
    target: str
    bytes_fetched: float
    bytes_full: float


@dataclass
class Figures:
    """Filled by the scenes, read by the report."""

    conversions: list[Conversion] = field(default_factory=list)
    served: list[Served] = field(default_factory=list)
    fetched: list[Fetched] = field(default_factory=list)
    refusals: dict[str, dict[str, str]] = field(default_factory=dict)
    """Attack -> device -> the cause that it named."""
    class_shares: dict[str, list[float]] = field(default_factory=dict)
    """Target -> the canary's mix of answers."""
    restored_s: float | None = None
