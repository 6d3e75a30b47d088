"""What the stored events and reports say, as plain values. Pure but for reading pages of a list."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from outrider.client import HubClient
from outrider.demo.releases import FAMILY
from outrider.pages import every_item

Event = dict[str, Any]


def refusals(events: Iterable[Event], phases: Iterable[str]) -> dict[str, str]:
    """Device -> the cause of its last refusal among these events."""
    ended = set(phases)
    return {e["device"]: e["cause"] for e in events if e["phase"] in ended and e["cause"]}


def bytes_fetched(events: Iterable[Event]) -> dict[str, tuple[float, float]]:
    """Device -> (bytes on the wire, bytes of the whole variant), as the device measured them."""
    found = {}
    for event in events:
        figures = event.get("figures") or {}
        if "bytes_fetched" in figures and "bytes_full" in figures:
            found[event["device"]] = (figures["bytes_fetched"], figures["bytes_full"])
    return found


def waves_in_words(rollout: dict[str, Any]) -> str:
    """`1, 3, 6 of 6`."""
    reached = [str(wave["cumulative"]) for wave in rollout["waves"]]
    return f"{', '.join(reached)} of {rollout['counts']['total']}"


def class_shares(client: HubClient, device: str) -> dict[str, list[float]]:
    """Target -> the share of each class among a device's answers, over all its reports."""
    names = {r["digest"]: r["target"] for r in client.get("releases", family=FAMILY)["items"]}
    counts: dict[str, list[int]] = {}
    for report in every_item(client, "reports", device=device):
        drift = (report.get("drift") or {}).get(FAMILY)
        if not drift or not drift.get("classes"):
            continue
        target = names.get(drift["digest"], drift["digest"][:12])
        sums = counts.setdefault(target, [0] * len(drift["classes"]))
        counts[target] = [a + b for a, b in zip(sums, drift["classes"], strict=True)]
    return {
        target: [count / sum(sums) for count in sums]
        for target, sums in sorted(counts.items())
        if sum(sums)
    }


def gaps_and_repeats(numbered: Iterable[tuple[str, int]]) -> list[str]:
    """What is wrong with (device, seq) pairs that should be 1..N once each, in words."""
    seen: dict[str, list[int]] = {}
    for device, seq in numbered:
        seen.setdefault(device, []).append(seq)
    wrong = []
    for device, seqs in sorted(seen.items()):
        missing = sorted(set(range(min(seqs), max(seqs) + 1)) - set(seqs))
        repeated = len(seqs) - len(set(seqs))
        if missing:
            wrong.append(f"{device}: {len(missing)} missing, from {missing[0]} on")
        if repeated:
            wrong.append(f"{device}: {repeated} stored twice")
        if min(seqs) > 1:
            wrong.append(f"{device}: begins at {min(seqs)}")
    return wrong
