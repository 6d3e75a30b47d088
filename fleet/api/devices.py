"""Routes of devices, for operators. What devices themselves ask is in fleet.api.identity."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Response
from sqlalchemy import select
from sqlalchemy.orm import Session

from contract.enrolment import encode_enrolment
from contract.ids import check_id
from contract.messages import Verb
from fleet.api import shapes
from fleet.api.access import Actor, Hub, audited
from fleet.api.bodies import DeviceBody, HoldBody
from fleet.api.paging import AfterName, Limit, page
from fleet.assignments import command
from fleet.devices import add_device, find_device, remove_device, replace_device
from fleet.rollouts.loading import subject_of
from fleet.rollouts.selectors import parse_selector
from fleet.storage.schema import AssignedFamily, Device

router = APIRouter(tags=["devices"])
DeviceName = Annotated[str, Path(max_length=63)]
SelectorText = Annotated[str, Query(max_length=500)]


@router.post("/devices", status_code=201)
def add(body: DeviceBody, hub: Hub, who: Actor) -> Response:
    """Expect a device; answers its enrolment file, which holds the only copy of its secret."""
    valid_ms = 1_000 * body.valid_s
    with audited(hub, who, f"device.{'replace' if body.replace else 'add'}", body.name) as detail:
        detail.update(device_class=body.device_class, labels=body.labels)
        if body.replace:
            file = replace_device(hub, body.name, body.device_class, body.labels, valid_ms)
        else:
            device_class, labels = body.device_class or "generic", body.labels or {}
            file = add_device(hub, body.name, device_class, labels, valid_ms)
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


def _assigned(session: Session, names: list[str]) -> dict[str, list[AssignedFamily]]:
    found: dict[str, list[AssignedFamily]] = {}
    wanted = select(AssignedFamily).where(AssignedFamily.device.in_(names))
    for row in session.scalars(wanted.order_by(AssignedFamily.family)):
        found.setdefault(row.device, []).append(row)
    return found
