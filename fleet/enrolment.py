"""Gives a device its certificate, once, against the secret of its enrolment file.

The hub sets the subject itself; of the CSR only the key counts. The secret is forgotten once used;
what stays is the reply, for an exact retry: a reply lost on the way must not strand a device. Wrong
tries cost the file nothing, or whoever knows a device's name could void it: what keeps a secret of
256 bits from being guessed is its length.
"""

from __future__ import annotations

import secrets
from typing import Any

import msgspec
from sqlalchemy import delete
from sqlalchemy.orm import Session

from contract.enrolment import (
    EnrolmentPending,
    EnrolmentReply,
    EnrolmentRequest,
    check_mac,
    encode_enrolment,
    reply_mac,
    request_mac,
)
from contract.envelope import key_id
from contract.errors import BadSignature
from contract.ids import digest_of
from fleet.ca import Authority
from fleet.certificates import remember_certificate
from fleet.csr import csr_key
from fleet.errors import EnrolmentRefused
from fleet.storage.database import Storage
from fleet.storage.schema import Device, Enrolment

LIFETIME_MS = 3_600_000
WAITING_MS = 7 * 24 * LIFETIME_MS
"""How long a request waits for an operator's word."""
RETRY_S = 15

_REFUSED = "ask for a new enrolment file (`outrider device add`)"


def open_enrolment(
    session: Session, device: str, now_ms: int, valid_ms: int = LIFETIME_MS
) -> Enrolment:
    """Replace whatever enrolment of the device was out by a fresh secret."""
    session.execute(delete(Enrolment).where(Enrolment.device == device))
    enrolment = Enrolment(
        device=device,
        secret=secrets.token_hex(32),
        created_at_ms=now_ms,
        expires_at_ms=now_ms + valid_ms,
    )
    session.add(enrolment)
    return enrolment


def prove(storage: Storage, request: EnrolmentRequest, now_ms: int) -> None:
    """Raises `EnrolmentRefused` unless whoever asks holds the file. One hash; changes nothing."""
    with storage.reading() as session:
        enrolment = _find(session, request.device, now_ms)
        if enrolment.secret is None:
            _answer_again(enrolment, _digest(request))
        else:
            _check(enrolment.secret, request)


def enrol(
    storage: Storage,
    authority: Authority,
    request: EnrolmentRequest,
    now_ms: int,
    ask_first: bool = False,
) -> EnrolmentReply | EnrolmentPending:
    """Answer one request; raises `EnrolmentRefused`.

    `ask_first`: without an operator's approval of this very key, the request waits.
    """
    with storage.session() as session:
        return _answer(session, authority, request, now_ms, ask_first)


def _answer(
    session: Session,
    authority: Authority,
    request: EnrolmentRequest,
    now_ms: int,
    ask_first: bool,
) -> EnrolmentReply | EnrolmentPending:
    enrolment = _find(session, request.device, now_ms)
    digest = _digest(request)
    if enrolment.secret is None:
        return _answer_again(enrolment, digest)
    _check(enrolment.secret, request)
    key = csr_key(request.csr_pem)
    if ask_first and not _is_approved(enrolment, digest):
        return _wait(enrolment, request, digest, key_id(key), now_ms)
    issued = authority.issue_device(request.device, key, now_ms)
    reply = EnrolmentReply(
        device=request.device,
        certificate_pem=issued.chain_pem,
        mac=reply_mac(enrolment.secret, request.device, issued.chain_pem, request.nonce),
    )
    remember_certificate(session, request.device, issued)
    _close(session, enrolment, digest, reply, now_ms)
    return reply


def _is_approved(enrolment: Enrolment, digest: str) -> bool:
    """The first request that came is the one that waits; another of the same secret is refused."""
    if enrolment.request_digest not in (None, digest):
        raise EnrolmentRefused(
            f"another request to enrol {enrolment.device} waits for approval: {_REFUSED}"
        )
    return enrolment.approved_at_ms is not None


def _wait(
    enrolment: Enrolment, request: EnrolmentRequest, digest: str, key: str, now_ms: int
) -> EnrolmentPending:
    if enrolment.asked_at_ms is None:
        enrolment.request_digest, enrolment.key_id = digest, key
        enrolment.claims = msgspec.to_builtins(request.claims)
        enrolment.asked_at_ms = now_ms
        # It came in time; now it is the operator who may take theirs.
        enrolment.expires_at_ms = max(enrolment.expires_at_ms, now_ms + WAITING_MS)
    return EnrolmentPending(device=request.device, key_id=key, retry_s=RETRY_S)


def _find(session: Session, device: str, now_ms: int) -> Enrolment:
    enrolment = session.get(Enrolment, device)
    if enrolment is None:
        raise EnrolmentRefused(f"no enrolment of {device} is open: {_REFUSED}")
    if now_ms >= enrolment.expires_at_ms:
        raise EnrolmentRefused(f"the enrolment file of {device} has expired: {_REFUSED}")
    return enrolment


def _answer_again(enrolment: Enrolment, digest: str) -> EnrolmentReply:
    """The secret is gone: only the request's digest can show that it is the same one."""
    if enrolment.reply is None or not secrets.compare_digest(
        enrolment.request_digest or "", digest
    ):
        raise EnrolmentRefused(f"{enrolment.device} is enrolled already with this file: {_REFUSED}")
    return msgspec.convert(enrolment.reply, EnrolmentReply)


def _check(secret: str, request: EnrolmentRequest) -> None:
    expected = request_mac(secret, request.device, request.csr_pem, request.nonce, request.claims)
    try:
        check_mac(expected, request.mac, "enrolment request")
    except BadSignature as error:
        raise EnrolmentRefused(str(error)) from error


def _digest(request: EnrolmentRequest) -> str:
    return digest_of(encode_enrolment(request))


def _close(
    session: Session, enrolment: Enrolment, digest: str, reply: EnrolmentReply, now_ms: int
) -> None:
    body: dict[str, Any] = msgspec.to_builtins(reply)
    enrolment.secret = None
    enrolment.used_at_ms = now_ms
    enrolment.request_digest = digest
    enrolment.reply = body
    device = session.get_one(Device, reply.device)
    device.status = "enrolled"
    device.enrolled_at_ms = now_ms
