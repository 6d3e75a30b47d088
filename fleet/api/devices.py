"""Routes of devices, and the one by which a device enrols."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Request, Response
from sqlalchemy import select
from sqlalchemy.orm import Session
from starlette.concurrency import run_in_threadpool

from contract.enrolment import (
    MAX_ENROLMENT_BYTES,
    EnrolmentRequest,
    decode_enrolment,
    encode_enrolment,
)
from contract.ids import check_id
from contract.messages import Verb
from fleet.api import shapes
from fleet.api.access import Actor, Hub, audited
from fleet.api.bodies import DeviceBody, HoldBody
from fleet.api.errors import Refused
from fleet.api.limits import RateLimit
from fleet.api.paging import AfterName, Limit, page
from fleet.assignments import command
from fleet.ca import Authority
from fleet.devices import add_device, find_device, remove_device
from fleet.enrolment import enrol
from fleet.ports import HubServices
from fleet.rollouts.loading import subject_of
from fleet.rollouts.selectors import parse_selector
from fleet.storage.schema import AssignedFamily, Device

router = APIRouter(tags=["devices"])
enrolment_router = APIRouter(tags=["enrolment"])
DeviceName = Annotated[str, Path(max_length=63)]
SelectorText = Annotated[str, Query(max_length=500)]
ENROLMENTS_A_MINUTE = (6, 600)
"""Of one device, and of all."""


@router.post("/devices", status_code=201)
def add(body: DeviceBody, hub: Hub, who: Actor) -> Response:
    """Expect a device; answers its enrolment file, which holds the only copy of its secret."""
    with audited(hub, who, "device.add", body.name) as detail:
        detail.update(device_class=body.device_class, labels=body.labels)
        file = add_device(hub, body.name, body.device_class, body.labels)
    headers = {"Cache-Control": "no-store"}
    return Response(encode_enrolment(file), 201, headers, media_type="application/json")


@router.get("/devices")
def devices(
    hub: Hub,
    who: Actor,
    selector: SelectorText = "all",
    after: AfterName = "",
    limit: Limit = 200,
) -> dict[str, Any]:
    """Devices that were not removed, by name."""
    parsed = parse_selector(selector)
    with hub.storage.reading() as session:
        wanted = (select(Device).where(Device.status != "revoked", Device.name > after)).order_by(
            Device.name
        )
        found: list[Device] = []
        for row in session.scalars(wanted):
            if parsed.matches(subject_of(row)):
                found.append(row)
            if len(found) > limit:
                break
        assigned = _assigned(session, [row.name for row in found])
        now_ms = hub.clock()
        return page(
            found,
            limit,
            lambda row: row.name,
            lambda row: shapes.device(row, assigned.get(row.name, []), now_ms),
        )


@router.get("/devices/{name}")
def one_device(hub: Hub, who: Actor, name: DeviceName) -> dict[str, Any]:
    """One device."""
    with hub.storage.reading() as session:
        row = find_device(session, name)
        return shapes.device(row, _assigned(session, [name]).get(name, []), hub.clock())


@router.delete("/devices/{name}")
def remove(hub: Hub, who: Actor, name: DeviceName) -> dict[str, Any]:
    """Revoke a device: from now on the hub ignores it."""
    with audited(hub, who, "device.remove", name):
        remove_device(hub, name)
    return {"name": name, "status": "revoked"}


@router.post("/devices/{name}/release-hold", status_code=202)
def release_hold(body: HoldBody, hub: Hub, who: Actor, name: DeviceName) -> dict[str, Any]:
    """Let a device that rolled back by itself be updated again under the same assignment."""
    with audited(hub, who, "device.release-hold", name) as detail:
        detail["family"] = check_id(body.family, "family")
        with hub.storage.session() as session:
            row = command(session, name, Verb.RELEASE_HOLD, body.family, hub.clock())
            detail["command"] = row.id
    hub.link.wake()
    return {"command": detail["command"]}


@enrolment_router.post("/enrol")
async def enrol_device(request: Request, hub: Hub) -> Response:
    """A device's request for its certificate, proven by the secret of its enrolment file."""
    data = await request.body()
    if len(data) > MAX_ENROLMENT_BYTES:
        raise Refused(413, "too-large", f"at most {MAX_ENROLMENT_BYTES} bytes")
    asked = decode_enrolment(EnrolmentRequest, data)
    limit: RateLimit = request.app.state.enrolments
    if not limit.allows(asked.device):
        raise Refused(429, "too-often", f"too many enrolments of {asked.device}: wait", 60)
    return await run_in_threadpool(_enrol, hub, asked)


def _enrol(hub: HubServices, asked: EnrolmentRequest) -> Response:
    reply = enrol(hub.storage, Authority(hub.directory / "ca"), asked, hub.clock())
    with audited(hub, f"device:{asked.device}"[:63], "device.enrol", asked.device):
        pass  # refused attempts are counted by the enrolment itself, and bounded there
    return Response(encode_enrolment(reply), media_type="application/json")


def _assigned(session: Session, names: list[str]) -> dict[str, list[AssignedFamily]]:
    found: dict[str, list[AssignedFamily]] = {}
    wanted = select(AssignedFamily).where(AssignedFamily.device.in_(names))
    for row in session.scalars(wanted.order_by(AssignedFamily.family)):
        found.setdefault(row.device, []).append(row)
    return found
