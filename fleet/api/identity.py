"""What devices ask for themselves, without a token: their first certificate, and the next one.

Each proves itself in its body. Strangers can reach these routes, so their number is bounded.
"""

from __future__ import annotations

from fastapi import APIRouter, Request, Response
from starlette.concurrency import run_in_threadpool

from contract.enrolment import (
    MAX_ENROLMENT_BYTES,
    EnrolmentPending,
    EnrolmentRequest,
    decode_enrolment,
    encode_enrolment,
)
from contract.renewal import (
    MAX_RENEWAL_BYTES,
    TIME_HEADER,
    SignedRenewal,
    encode_reply,
    read_renewal,
)
from fleet.api.access import Hub, audited
from fleet.api.errors import Refused
from fleet.api.limits import RateLimit
from fleet.ca import Authority
from fleet.enrolment import enrol
from fleet.errors import ClockDiffers
from fleet.ports import HubServices
from fleet.renewal import renew

router = APIRouter(tags=["enrolment"])
REQUESTS_A_MINUTE = (6, 600)
"""Of one device, and of all."""


@router.post("/enrol")
async def enrol_device(request: Request, hub: Hub) -> Response:
    """A device's request for its certificate, proven by the secret of its enrolment file."""
    data = await _body(request, MAX_ENROLMENT_BYTES)
    asked = decode_enrolment(EnrolmentRequest, data)
    _count(request.app.state.enrolments, asked.device, "enrolments")
    return await run_in_threadpool(_enrol, hub, asked)


@router.post("/renew")
async def renew_certificate(request: Request, hub: Hub) -> Response:
    """A device's request for its next certificate, signed with its present key."""
    signed = read_renewal(await _body(request, MAX_RENEWAL_BYTES))
    _count(request.app.state.renewals, signed.request.device, "renewals")
    return await run_in_threadpool(_renew, hub, signed)


def _enrol(hub: HubServices, asked: EnrolmentRequest) -> Response:
    authority = Authority(hub.directory / "ca")
    reply = enrol(hub.storage, authority, asked, hub.clock(), hub.config.approve)
    if isinstance(reply, EnrolmentPending):
        return Response(encode_enrolment(reply), 202, media_type="application/json")
    with audited(hub, f"device:{asked.device}"[:63], "device.enrol", asked.device):
        pass  # refused attempts are counted by the enrolment itself, and bounded there
    return Response(encode_enrolment(reply), media_type="application/json")


def _renew(hub: HubServices, signed: SignedRenewal) -> Response:
    try:
        reply = renew(hub.storage, Authority(hub.directory / "ca"), signed, hub.clock())
    except ClockDiffers as error:
        headers = {TIME_HEADER: str(error.now_ms)}
        raise Refused(409, "clock-differs", str(error), headers=headers) from error
    return Response(encode_reply(reply), media_type="application/json")


async def _body(request: Request, most: int) -> bytes:
    data = await request.body()
    if len(data) > most:
        raise Refused(413, "too-large", f"at most {most} bytes")
    return data


def _count(limit: RateLimit, device: str, what: str) -> None:
    if not limit.allows(device):
        raise Refused(429, "too-often", f"too many {what} of {device}: wait", 60)
