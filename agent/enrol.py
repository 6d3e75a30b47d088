"""Enrolment: from the file that `outrider device add` wrote to an identity on this device.

The key is made here, and it and the request are stored before anything is sent, so that a try that
was cut off is repeated to the byte: a hub whose reply was lost gives it again. Nothing appears in
`S/identity` until all is checked and synchronised; one rename makes it the device's identity. Every
failure is an `EnrolmentFailed`: what, and what to do.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import ssl
import stat
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from agent import certificates
from agent.errors import DeviceError, TransportFailed
from agent.hardware import read_claims
from agent.hub_https import AnotherHub, Answer, NotAnAddress, post, refusal
from agent.identity import (
    DIRECTORY,
    KEY,
    RECORD,
    AgentIdentity,
    undo_cut_off_replacement,
)
from agent.journal import JournalUnusable
from agent.link.tls import trust_only
from agent.lock import AlreadyRunning, StateLock
from agent.new_identity import PENDING, REQUEST, put_in_place
from agent.stamps import wall_clock_ms
from agent.store.durable import write_durably
from contract.enrolment import (
    MAX_ENROLMENT_BYTES,
    EnrolmentFile,
    EnrolmentPending,
    EnrolmentReply,
    EnrolmentRequest,
    check_mac,
    decode_enrolment,
    encode_enrolment,
    reply_mac,
    request_mac,
)
from contract.errors import BadSignature, ContractError

_ENROL_PATH = "/api/v1/enrol"
_ACCEPTED, _UNREACHED = 202, 503
_NOT_YET = frozenset({_ACCEPTED, 429, 500, 502, _UNREACHED, 504})
"""While a request waits for an operator, these mean: later."""
_AGAIN_S = 30
_NEW_FILE = "make a new file with `outrider device add`"


class EnrolmentFailed(DeviceError):
    """The device is as it was; the message is one line."""


def enroll(
    file: Path,
    state_dir: Path,
    force: bool = False,
    clock: Callable[[], int] = wall_clock_ms,
    waiting: Callable[[EnrolmentPending], None] = lambda _pending: None,
    sleep: Callable[[float], None] = time.sleep,
) -> AgentIdentity:
    """Enrol this device; the file's secret is spent when it returns. Raises `EnrolmentFailed`.

    Where the hub asks an operator first, it waits and asks again; `waiting` is told once. Cut off
    there, the same command goes on where it stood.
    """
    try:
        return _enroll(read_file(file), state_dir, force, clock, _Patience(waiting, sleep))
    except EnrolmentFailed:
        raise
    except OSError as error:
        where = error.filename or state_dir
        raise EnrolmentFailed(f"cannot write {where}: {error.strerror or error}") from error
    except DeviceError as error:
        raise EnrolmentFailed(f"cannot keep the identity: {error}") from error


def read_file(path: Path) -> EnrolmentFile:
    """The enrolment file; it holds a secret, so it must be private."""
    try:
        with path.open("rb") as opened:
            mode = stat.S_IMODE(os.fstat(opened.fileno()).st_mode)
            data = opened.read(MAX_ENROLMENT_BYTES + 1)
    except OSError as error:
        raise EnrolmentFailed(f"cannot read {path}: {error.strerror}") from error
    if mode & 0o077:
        raise EnrolmentFailed(
            f"{path} holds a secret and others may read it (mode {mode:o}): run `chmod 600 {path}`"
        )
    try:
        found = decode_enrolment(EnrolmentFile, data)
        certificates.check_ca(found.ca_pem)
        return found
    except (ContractError, certificates.CertificateRefused) as error:
        raise EnrolmentFailed(f"{path} is not an enrolment file ({error}); {_NEW_FILE}") from error


class _Patience(NamedTuple):
    """How it waits for an operator, and who is told that it does."""

    waiting: Callable[[EnrolmentPending], None]
    sleep: Callable[[float], None]


def _enroll(
    found: EnrolmentFile,
    state_dir: Path,
    force: bool,
    clock: Callable[[], int],
    patience: _Patience,
) -> AgentIdentity:
    now_ms = max(clock(), found.floor_ms)
    # A request that waits for an operator may outlast its file; the hub knows.
    if now_ms >= found.expires_at_ms and _kept_request(state_dir / PENDING, found) is None:
        minutes = (now_ms - found.expires_at_ms) // 60_000
        raise EnrolmentFailed(
            f"the enrolment file for {found.device} expired {minutes} minutes ago; {_NEW_FILE}"
        )
    undo_cut_off_replacement(state_dir)
    if (state_dir / DIRECTORY / RECORD).exists() and not force:
        raise EnrolmentFailed(
            f"{state_dir} already holds an identity; give --force to replace it, or --state to"
            " use another directory"
        )
    state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    _lock(state_dir).release()  # to know now; an operator may take days, and nobody should wait
    key = _pending_key(state_dir / PENDING)
    request = _pending_request(state_dir / PENDING, found, key)
    context = trust_only(found.ca_pem, clock_is_wrong=clock() < found.floor_ms)
    certificate = _ask(found, request, context, patience)
    now_ms = max(clock(), found.floor_ms)
    try:
        certificates.check_chain(certificate, found.ca_pem, key, found.device, now_ms)
    except certificates.CertificateRefused as error:
        raise EnrolmentFailed(f"the hub's answer was refused: {error}") from error
    lock = _lock(state_dir)
    try:
        return put_in_place(found, certificate, state_dir)
    except JournalUnusable as error:
        raise EnrolmentFailed(f"the journal cannot be used: {error}") from error
    finally:
        lock.release()


def _lock(state_dir: Path) -> StateLock:
    """A daemon would go on as who it was, and write what it knows of the old hub over the new."""
    lock = StateLock(state_dir)
    try:
        lock.acquire()
    except AlreadyRunning as error:
        raise EnrolmentFailed(f"{error}, then run the same command again") from error
    return lock


def _pending_key(directory: Path) -> EllipticCurvePrivateKey:
    """The key of a try that was cut off, else a new one; on disk before it is used."""
    directory.mkdir(mode=0o700, exist_ok=True)
    path = directory / KEY
    with contextlib.suppress(OSError, ValueError, TypeError):
        kept = load_pem_private_key(path.read_bytes(), password=None)
        if isinstance(kept, EllipticCurvePrivateKey):
            return kept
    key = certificates.new_key()
    write_durably(path, certificates.key_pem(key), mode=0o600)
    return key


def _kept_request(directory: Path, found: EnrolmentFile) -> EnrolmentRequest | None:
    """The request of a try with this very file that was cut off."""
    with contextlib.suppress(OSError, ContractError):
        kept = decode_enrolment(EnrolmentRequest, (directory / REQUEST).read_bytes())
        mac = request_mac(found.secret, found.device, kept.csr_pem, kept.nonce, kept.claims)
        check_mac(mac, kept.mac, "the kept request")
        return kept
    return None


def _pending_request(
    directory: Path, found: EnrolmentFile, key: EllipticCurvePrivateKey
) -> EnrolmentRequest:
    """The kept request where it is for this key, else a new one."""
    kept = _kept_request(directory, found)
    if kept is not None and certificates.is_request_of(kept.csr_pem, key):
        return kept
    csr_pem = certificates.request_pem(key, found.device)
    nonce, claims = secrets.token_hex(16), read_claims()
    request = EnrolmentRequest(
        device=found.device,
        csr_pem=csr_pem,
        nonce=nonce,
        mac=request_mac(found.secret, found.device, csr_pem, nonce, claims),
        claims=claims,
    )
    write_durably(directory / REQUEST, encode_enrolment(request))
    return request


def _ask(
    found: EnrolmentFile, request: EnrolmentRequest, context: ssl.SSLContext, patience: _Patience
) -> str:
    body = encode_enrolment(request)
    answer = _post(found.hub_url, context, body)
    told = False
    while answer.status in _NOT_YET and (told or answer.status == _ACCEPTED):
        pending = _pending(found, answer) if answer.status == _ACCEPTED else None
        if pending is not None and not told:
            patience.waiting(pending)
            told = True
        patience.sleep(pending.retry_s if pending is not None else _AGAIN_S)
        answer = _post_again(found.hub_url, context, body)
    if answer.status != 200:
        raise EnrolmentFailed(_refusal(found, answer))
    try:
        reply = decode_enrolment(EnrolmentReply, answer.body)
        expected = reply_mac(found.secret, found.device, reply.certificate_pem, request.nonce)
        check_mac(expected, reply.mac, "the hub's answer")
    except BadSignature as error:
        raise EnrolmentFailed(f"{error}: somebody else answered at {found.hub_url}") from error
    except ContractError as error:
        raise EnrolmentFailed(f"{found.hub_url} gave no enrolment reply: {error}") from error
    return reply.certificate_pem


def _pending(found: EnrolmentFile, answer: Answer) -> EnrolmentPending:
    try:
        return decode_enrolment(EnrolmentPending, answer.body)
    except ContractError as error:
        raise EnrolmentFailed(f"{found.hub_url} gave no enrolment reply: {error}") from error


def _post_again(hub_url: str, context: ssl.SSLContext, body: bytes) -> Answer:
    """While it waits, a hub that restarts is no reason to give up."""
    try:
        return post(hub_url, _ENROL_PATH, context, body)
    except TransportFailed:
        return Answer(_UNREACHED, b"", {})


def _post(hub_url: str, context: ssl.SSLContext, body: bytes) -> Answer:
    try:
        return post(hub_url, _ENROL_PATH, context, body)
    except NotAnAddress as error:
        raise EnrolmentFailed(f"{error}; {_NEW_FILE}") from error
    except AnotherHub as error:
        raise EnrolmentFailed(f"not the hub of the enrolment file: {error}") from error
    except TransportFailed as error:
        raise EnrolmentFailed(
            f"{error}; check the network and that `outrider hub serve` runs, then run the same"
            " command again"
        ) from error


def _refusal(found: EnrolmentFile, answer: Answer) -> str:
    again = answer.status >= 500 or answer.status == 429
    hint = "run the same command again later" if again else _NEW_FILE
    said = refusal(answer)
    # Most refusals say it themselves.
    advice = "" if "outrider device add" in said else f"; {hint}"
    return f"the hub refused to enrol {found.device}: {said}{advice}"
