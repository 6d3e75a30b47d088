"""A rollout's plan, progress and decisions in words. Pure but for printing."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from outrider.durations import format_duration
from outrider.sizes import format_size
from outrider.terminal import minute, note, print_fields, print_table, say, when


def rollout_row(found: dict[str, Any]) -> tuple[object, ...]:
    """One line of `rollout list`."""
    counts = found["counts"]
    return (
        found["id"],
        found["kind"],
        found["target"],
        found["selector"],
        found["status"],
        _wave(found),
        f"{counts['succeeded']}/{counts['total']}",
        counts["failed"] + counts["timed_out"],
        minute(found["created_at_ms"]),
    )


def device_row(found: dict[str, Any]) -> tuple[object, ...]:
    """One line of `rollout show`. Waves are counted from 1."""
    return (
        found["device"],
        found["wave"] + 1,
        found["status"],
        found["phase"],
        found["outcome"],
        found["cause"],
        found["good_inferences"],
        found["detail"],
    )


def progress_line(found: dict[str, Any]) -> str:
    """Where a rollout stands, on one line."""
    counts = found["counts"]
    parts = [
        f"{found['id']} {found['target']}: {found['status']}, wave {_wave(found)}",
        f"{counts['succeeded']} of {counts['total']} good",
    ]
    for name in ("serving", "assigned", "failed", "timed_out", "unproven", "reverted", "untouched"):
        if counts[name]:
            parts.append(f"{counts[name]} {name.replace('_', ' ')}")
    soaks_until = _soaks_until(found)
    if soaks_until:
        parts.append(f"soaking until {soaks_until}")
    restored = found["timings"]["restored_s"]
    if restored is not None:
        parts.append(f"restored after {format_duration(restored)}")
    return ", ".join(parts)


def print_rollout(found: dict[str, Any]) -> None:
    """The head of `rollout show`."""
    spec = found["spec"]
    say(progress_line(found))
    print_fields(
        {
            "reason": found["reason"],
            "to": found["selector"],
            "waves": ", ".join(str(wave) for wave in spec["waves"]),
            "soak": format_duration(spec["soak_s"]),
            "deadline": format_duration(spec["deadline_s"]),
            "metered budget": _budget(spec),
            "abort if": f"{spec['abort_if']}, then {spec['on_failure']}",
            "started": when(found["created_at_ms"]) + f" by {found['created_by']}",
            "finished": when(found["finished_at_ms"]),
            "left out": ", ".join(f"{e['device']} ({e['reason']})" for e in found["excluded"]),
        }
    )


def print_plan(plan: dict[str, Any]) -> None:
    """What `--dry-run` answers."""
    for line in plan["words"]:
        say(line)
    print_table(
        ("wave", "devices", "in all", "which"),
        [
            (wave["index"] + 1, wave["size"], wave["cumulative"], _some(wave["devices"]))
            for wave in plan["waves"]
        ],
        "no device would be reached",
    )
    for excluded in plan["excluded"]:
        note(f"left out: {excluded['device']}: {excluded['reason']}")
    if plan["conflict"]:
        note(f"would be refused now: {plan['conflict']}")


def why_lines(head: dict[str, Any], decisions: list[dict[str, Any]]) -> Iterator[str]:
    """Each decision: when, what, why; then its words, indented."""
    yield f"{head['id']} {head['target']}: {head['status']}"
    for decision in decisions:
        yield f"{when(decision['at_ms'])}  {decision['action']}: {decision['reason']}"
        for words in decision["words"]:
            if words != decision["reason"]:
                yield f"    {words}"
    for one in head.get("waiting", ()):
        yield f"now  {one['device']} waits, {one['cause']}: {one['detail']}"


def _budget(spec: dict[str, Any]) -> str:
    """Nothing where there is none, as from a hub that knows of no budgets."""
    most = spec.get("metered_bytes") or 0
    return f"{format_size(most)} a device" if most else ""


def _soaks_until(found: dict[str, Any]) -> str:
    """The time of day; a soak of more than half a day with its date. A hub's list says nothing."""
    until_ms = max((wave.get("soak_until_ms") or 0 for wave in found["waves"]), default=0)
    if not until_ms:
        return ""
    told = when(until_ms)
    return told if found["spec"]["soak_s"] > 43_200 else told.partition(" ")[2]


def _wave(found: dict[str, Any]) -> str:
    waves = found.get("spec", {}).get("waves") or []
    return f"{found['wave'] + 1}/{len(waves)}" if waves else str(found["wave"] + 1)


def _some(devices: list[str], most: int = 8) -> str:
    more = len(devices) - most
    return ", ".join(devices[:most]) + (f" and {more} more" if more > 0 else "")
