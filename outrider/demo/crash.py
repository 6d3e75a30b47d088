"""The demo's accidents: a power cut in the middle of an update, and a broker that goes away."""

from __future__ import annotations

import contextlib
import time

import psutil

from outrider.demo.evidence import gaps_and_repeats
from outrider.demo.stage import Device, Stage
from outrider.errors import CommandFailed
from outrider.pages import every_item

UNDER_WAY = ("fetching", "verifying", "staged", "trial", "activating", "probation")
STEP_S = 0.02
BROKER = "mosquitto"


def cut_in_mid_update(stage: Stage, rollout: str) -> tuple[str, Device]:
    """Cut the power of the first device that says it is under way; where it was, and which."""

    def under_way() -> tuple[str, Device] | None:
        for event in reversed(stage.events(rollout=rollout)):
            if event["phase"] in UNDER_WAY and event["outcome"] is None:
                return event["phase"], stage.device(event["device"])
        return None

    phase, device = stage.wait("a device in mid-update", under_way)
    stage.cut_power(device)
    return phase, device


def stop_broker(stage: Stage) -> float:
    """Stop the broker and wait until the hub has it back; how long it was away, in seconds."""
    hub = psutil.Process(stage.hub.process.pid)
    brokers = [p for p in hub.children(recursive=True) if p.name() == BROKER]
    if len(brokers) != 1:
        raise CommandFailed(f"the hub runs {len(brokers)} brokers, not one")
    before = stage.client.get("status")["broker"]["epoch"]
    began = time.monotonic()
    brokers[0].terminate()
    with contextlib.suppress(psutil.TimeoutExpired):
        brokers[0].wait(5)

    def back() -> bool | None:
        broker = stage.client.get("status")["broker"]
        return (broker["connected"] and broker["epoch"] not in (None, before)) or None

    stage.wait("the broker to be back", back)
    return time.monotonic() - began


def require_exactly_once(stage: Stage) -> tuple[int, int]:
    """How many events and reports the hub holds; every device's numbers must be whole.

    A device numbers all that it sends in one row, so a gap would be something lost, and a number
    that comes twice something stored twice. What is still on its way is waited for.
    """
    found: list[str] = []
    counts = (0, 0)

    def whole() -> tuple[int, int] | None:
        nonlocal found, counts
        events = stage.events()
        reports = every_item(stage.client, "reports")
        counts = len(events), len(reports)
        found = gaps_and_repeats((row["device"], row["seq"]) for row in [*events, *reports])
        return None if found else counts

    try:
        return stage.wait("every message to be stored", whole, 20)
    except CommandFailed as error:
        raise CommandFailed(f"not exactly once: {'; '.join(found)}") from error
