"""A stored decision in words, for `why`: which device, which cause, which figures. Pure.

Reads evidence as it was stored, possibly by an older program: a field that is absent is passed
over, never an error.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

MAX_LINES = 40
MAX_NAMED = 20


def counted(number: int, noun: str) -> str:
    """`1 device`, `2 devices`: people read this at night."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def named(devices: Sequence[str], most: int = MAX_NAMED) -> str:
    """The first names, and how many more there are."""
    more = f" and {len(devices) - most} more" if len(devices) > most else ""
    return f"{', '.join(devices[:most])}{more}"


def words(reason: str, evidence: Mapping[str, Any]) -> list[str]:
    """The reason first, then what the decision was reached on."""
    lines = [reason]
    if "needed" in evidence:
        lines.append(_counts(evidence))
    lines += [_device(found) for found in evidence.get("devices", []) if isinstance(found, dict)]
    if "outcome" in evidence:
        lines += _failure(evidence)
    lines += _comparison(evidence.get("comparison"))
    if evidence.get("silent"):
        lines.append(f"without an answer: {named(evidence['silent'])}")
    if "restored_s" in evidence:
        lines.append(f"{evidence['restored_s']:.1f} s from the start of the rollout")
    return lines[:MAX_LINES]


def _counts(evidence: Mapping[str, Any]) -> str:
    return (
        f"wave {evidence.get('wave', 0) + 1}:"
        f" {counted(evidence.get('reached', 0), 'device')} reached,"
        f" {evidence.get('succeeded', 0)} succeeded (needed {evidence['needed']}),"
        f" {evidence.get('failed', 0)} failed (limit {evidence.get('threshold', '?')}),"
        f" {evidence.get('unproven', 0)} unproven, {evidence.get('pending', 0)} under way,"
        f" {evidence.get('superseded', 0)} superseded; {evidence.get('untouched', 0)} untouched"
    )


def _device(found: Mapping[str, Any]) -> str:
    detail = f": {found['detail']}" if found.get("detail") else ""
    return f"{found.get('device')}: {found.get('outcome')}, cause {found.get('cause')}{detail}"


def _failure(evidence: Mapping[str, Any]) -> list[str]:
    lines = [
        f"cause {evidence.get('cause') or 'not given'}, in phase {evidence.get('phase')},"
        f" after {evidence.get('good_inferences', 0)} good inferences"
    ]
    figures = evidence.get("figures") or {}
    if figures:
        told = ", ".join(f"{name} {value:.6g}" for name, value in sorted(figures.items()))
        lines.append(f"the device measured: {told}")
    return lines


def _comparison(found: Any) -> list[str]:
    if not isinstance(found, dict):
        return []
    checks = [
        f"{'passed' if check.get('passed') else 'FAILED'}: {check.get('words')}"
        for check in found.get("checks", [])
        if check.get("candidate") is not None
    ]
    judged = f"{found.get('inferences', 0)} inferences under the new release"
    return [f"{judged}, {found.get('words', '')}", *checks]
