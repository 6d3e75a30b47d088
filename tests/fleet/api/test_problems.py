"""What a status is taken to mean."""

from __future__ import annotations

from typing import Any

import pytest

from fleet.api.problems import DAY_MS, LOW_DISK_BYTES, problems

TUF: dict[str, Any] = {
    "versions": {"root": 1, "digits": 5},
    "expiries": {"timestamp": 1_800_000_000_000, "root": 1_800_000_000_000},
    "expired": [],
    "soon": [],
    "lost": {},
    "beyond": [],
    "new_keys_wait": False,
}
NOW = 1_800_000_000_000
REVOCATION: dict[str, Any] = {
    "ends_ms": NOW + 89 * DAY_MS,
    "revoked": 0,
    "enforced": True,
    "checked_at_ms": NOW,
    "sessions_since_ms": None,
}
CA: dict[str, Any] = {
    "stage": None,
    "next": "",
    "former_believed": False,
    "former_named": False,
    "ends_ms": NOW + 366 * DAY_MS,
}
WELL: dict[str, Any] = {
    "at_ms": NOW,
    "broker": {"connected": True},
    "storage": {"free_bytes": 10 * LOW_DISK_BYTES},
    "tuf": TUF,
    "revocation": REVOCATION,
    "ca": CA,
    "rollouts": {"open": []},
    "devices": {"enrolled": 3, "silent": 0, "on_hold": 0, "ahead": 0},
    "rejected": [],
    "bucket": None,
}
REFUSED = {"count": 5, "error": "BadSignature", "last_topic": "t", "last_at_ms": NOW - 1}


def test_a_hub_that_is_well_has_no_problems() -> None:
    assert problems(WELL) == []


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"broker": {"connected": False}}, "no connection to its broker"),
        ({"storage": {"free_bytes": 1}}, "less than 1 GiB"),
        ({"revocation": REVOCATION | {"ends_ms": None}}, "list of revoked certificates cannot be"),
        ({"revocation": REVOCATION | {"ends_ms": NOW + 9 * DAY_MS}}, "certificates ends on 2027"),
        ({"revocation": REVOCATION | {"enforced": False}}, "systemctl reload outrider-broker"),
        ({"revocation": REVOCATION | {"sessions_since_ms": NOW - DAY_MS}}, "still holds a session"),
        ({"bucket": {"held": [], "trouble": "no route"}}, "the bucket cannot be used: no route. D"),
        ({"ca": CA | {"stage": "made", "next": "do it"}}, "under way (made). Next: do it"),
        ({"ca": CA | {"stage": "made"}}, "follow policy/ca at their next refresh"),
        ({"ca": CA | {"former_believed": True}}, "systemctl restart outrider-broker"),
        ({"ca": CA | {"ends_ms": NOW + 364 * DAY_MS}}, "the CA ends on 2028-01-14"),
        ({"ca": CA | {"former_named": True}}, "names a root that this hub has given up"),
        ({"tuf": TUF | {"versions": {}}}, "outrider keys init"),
        ({"tuf": TUF | {"expired": ["digits"]}}, "outrider keys renew DIR digits"),
        ({"tuf": TUF | {"soon": ["timestamp"]}}, "its log"),
        ({"tuf": TUF | {"soon": ["root"]}}, "2027-01-15: sign it again with the offline keys"),
        ({"tuf": TUF | {"lost": {"digits": 7}}}, "version 7 of 'digits', and this hub holds 5"),
        ({"tuf": TUF | {"beyond": ["cam-1"]}}, "cam-1: reports numbers"),
        ({"tuf": TUF | {"new_keys_wait": True}}, "outrider keys rotate DIR online"),
        (
            {"devices": {"enrolled": 3, "silent": 2, "on_hold": 0, "ahead": 0}},
            "2 of 3 devices are silent",
        ),
        (
            {"devices": {"enrolled": 3, "silent": 0, "on_hold": 1, "ahead": 0}},
            "1 of 3 devices is on hold",
        ),
        ({"devices": WELL["devices"] | {"ahead": 2}}, "2 of 3 devices hold a newer assignment"),
        ({"rejected": [REFUSED]}, "in the last day: BadSignature on t, and 4 others"),
    ],
)
def test_each_problem_is_one_line_with_what_to_do(change: dict[str, Any], words: str) -> None:
    found = problems(WELL | change)
    assert len(found) == 1
    assert words in found[0]
    assert "\n" not in found[0]


def test_what_was_refused_long_ago_is_no_problem_of_tonight() -> None:
    assert problems(WELL | {"rejected": [REFUSED | {"last_at_ms": NOW - DAY_MS}]}) == []


def test_a_paused_rollout_is_a_problem_and_a_running_one_is_none() -> None:
    rows = [
        {"id": "r1", "target": "digits/1", "status": status, "reason": "two failed"}
        for status in ("running", "paused")
    ]
    found = problems(WELL | {"rollouts": {"open": rows}})
    assert len(found) == 1
    assert "outrider rollout why r1" in found[0]
