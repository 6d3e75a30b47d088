"""What devices ask for themselves, without a token: their first certificate, and the next one.

Each proves itself in its body, and the proof is checked before anything is counted: a request of
the device counts as the device's, any other as its sender's. So a stranger can use up nobody's
share, and is bounded by what a check costs: a row and a hash, or a signature.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

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
from fleet import enrolment, renewal
from fleet.api.access import Hub, audited
from fleet.api.errors import Refused
from fleet.api.limits import RateLimit
from fleet.ca import Authority
from fleet.errors import ClockDiffers, EnrolmentRefused, RenewalRefused
from fleet.ports import HubServices

router = APIRouter(tags=["enrolment"])
REQUESTS_A_MINUTE = (6, 600)
"""Of one device, and of all. Of those without proof: from one address about one device, and of all;
above that they are told to wait, and no longer why they are refused."""


@router.post("/enrol")
async def enrol_device(request: Request, hub: Hub) -> Response:
    """A device's request for its certificate, proven by the secret of its enrolment file."""
    data = await _body(request, MAX_ENROLMENT_BYTES)
    asked = decode_enrolment(EnrolmentRequest, data)
    proof = partial(enrolment.prove, hub.storage, asked, hub.clock())
    await _admit(request, asked.device, proof, request.app.state.enrolments)
    return await run_in_threadpool(_enrol, hub, asked)


@router.post("/renew")
async def renew_certificate(request: Request, hub: Hub) -> Response:
    """A device's request for its next certificate, signed with its present key."""
    signed = read_renewal(await _body(request, MAX_RENEWAL_BYTES))
    proof = partial(renewal.prove, hub.storage, signed)
    await _admit(request, signed.request.device, proof, request.app.state.renewals)
    return await run_in_threadpool(_renew, hub, signed)


def _enrol(hub: HubServices, asked: EnrolmentRequest) -> Response:
    authority = Authority(hub.directory / "ca")
    reply = enrolment.enrol(hub.storage, authority, asked, hub.clock(), hub.config.approve)
    if isinstance(reply, EnrolmentPending):
        return Response(encode_enrolment(reply), 202, media_type="application/json")
    with audited(hub, f"device:{asked.device}"[:63], "device.enrol", asked.device):
        pass  # what was refused is in no audit: strangers would fill it
    return Response(encode_enrolment(reply), media_type="application/json")


def _renew(hub: HubServices, signed: SignedRenewal) -> Response:
    try:
        reply = renewal.renew(hub.storage, Authority(hub.directory / "ca"), signed, hub.clock())
    except ClockDiffers as error:
        headers = {TIME_HEADER: str(error.now_ms)}
        raise Refused(409, "clock-differs", str(error), headers=headers) from error
    return Response(encode_reply(reply), media_type="application/json")


async def _body(request: Request, most: int) -> bytes:
    data = await request.body()
    if len(data) > most:
        raise Refused(413, "too-large", f"at most {most} bytes")
    return data


async def _admit(
    request: Request, device: str, proof: Callable[[], None], limit: RateLimit
) -> None:
    try:
        await run_in_threadpool(proof)
    except (EnrolmentRefused, RenewalRefused) as error:
        address = request.client.host if request.client else ""
        if not request.app.state.strangers.allows(f"{address}/{device}"):
            raise _too_often(device) from error
        raise
    if not limit.allows(device):
        raise _too_often(device)


def _too_often(device: str) -> Refused:
    return Refused(429, "too-often", f"too many requests of {device}: wait", 60)
