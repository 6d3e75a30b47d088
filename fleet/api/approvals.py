"""Routes of enrolments that wait for an operator's word."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any

import msgspec
from fastapi import APIRouter, Path

from fleet.api.access import Actor, Hub, audited
from fleet.api.bodies import ApprovalBody
from fleet.approvals import Waiting, approve, waiting

router = APIRouter(tags=["enrolment"])


@router.get("/enrolments")
def pending(hub: Hub, who: Actor) -> dict[str, Any]:
    """Requests that have not been answered with a certificate yet."""
    with hub.storage.reading() as session:
        return {"items": [_shown(each) for each in waiting(session, hub.clock())]}


@router.post("/enrolments/{name}/approve")
def approve_one(
    body: ApprovalBody, hub: Hub, who: Actor, name: Annotated[str, Path(max_length=63)]
) -> dict[str, Any]:
    """Let the machine with this key enrol as the device: it gets its certificate when it asks."""
    with audited(hub, who, "device.approve", name) as detail, hub.storage.session() as session:
        detail["key_id"] = body.key_id
        return _shown(approve(session, name, body.key_id, hub.clock()))


def _shown(one: Waiting) -> dict[str, Any]:
    return asdict(one) | {"claims": msgspec.to_builtins(one.claims)}
