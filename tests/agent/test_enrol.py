"""Enrolment against a real HTTPS server that plays the hub, honest and otherwise."""

from __future__ import annotations

import json
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import msgspec
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from agent.enrol import EnrolmentFailed, enroll
from agent.identity import IdentityError, NotEnrolled, load_identity
from agent.journal import JOURNAL_SCHEMA, Journal
from agent.lock import StateLock
from contract.enrolment import (
    EnrolmentFile,
    EnrolmentPending,
    EnrolmentReply,
    EnrolmentRequest,
    decode_enrolment,
    encode_enrolment,
    reply_mac,
    request_mac,
)
from tests.agent.roots import new_root_json, root_json
from tests.mosquitto import Authority

SECRET = "5e" * 32
NOW_MS = int(time.time() * 1000)
HOUR_MS = 3_600_000
Answer = Callable[[EnrolmentRequest], tuple[int, bytes]]


class HubOverHttps:
    """Answers POST /enrol by `answer`, which a test may replace."""

    def __init__(self, authority: Authority) -> None:
        self.authority = authority
        self.requests: list[EnrolmentRequest] = []
        self.answer: Answer = self.honest
        hub = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                assert self.path == "/api/v1/enrol"
                request = decode_enrolment(EnrolmentRequest, body)
                hub.requests.append(request)
                status, data = hub.answer(request)
                self.send_response(status)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *_args: object) -> None:
                pass

        self._server = HTTPServer(("127.0.0.1", 0), Handler)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        server = authority.server("hub-https")
        context.load_cert_chain(str(server.certificate), str(server.key))
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self.port = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()

    def honest(self, request: EnrolmentRequest) -> tuple[int, bytes]:
        mac = request_mac(SECRET, request.device, request.csr_pem, request.nonce, request.claims)
        assert mac == request.mac
        return 200, self.reply(request, request.device)

    def reply(
        self,
        request: EnrolmentRequest,
        name: str,
        secret: str = SECRET,
        by: Authority | None = None,
        key: ec.EllipticCurvePublicKey | None = None,
    ) -> bytes:
        csr = x509.load_pem_x509_csr(request.csr_pem.encode())
        public = key or csr.public_key()
        assert isinstance(public, ec.EllipticCurvePublicKey)
        certificate = (by or self.authority).sign(public, name)
        pem = certificate.public_bytes(serialization.Encoding.PEM).decode()
        mac = reply_mac(secret, request.device, pem, request.nonce)
        return encode_enrolment(EnrolmentReply(device=request.device, certificate_pem=pem, mac=mac))

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("ca"))


@pytest.fixture
def hub(authority: Authority) -> Iterator[HubOverHttps]:
    hub = HubOverHttps(authority)
    yield hub
    hub.close()


@pytest.fixture
def file(tmp_path: Path, hub: HubOverHttps) -> Path:
    return write_file(tmp_path / "pi-1.enrol", enrolment(hub))


def enrolment(hub: HubOverHttps) -> EnrolmentFile:
    return EnrolmentFile(
        device="pi-1",
        device_class="raspberry-pi-5",
        hub_url=f"https://localhost:{hub.port}",
        ca_pem=hub.authority.pem,
        broker_host="localhost",
        broker_port=8883,
        root_json=root_json().decode(),
        floor_ms=NOW_MS - 1000,
        secret=SECRET,
        expires_at_ms=NOW_MS + HOUR_MS,
    )


def write_file(path: Path, content: EnrolmentFile) -> Path:
    path.write_bytes(encode_enrolment(content))
    path.chmod(0o600)
    return path


def change(file: Path, **changes: object) -> None:
    found = decode_enrolment(EnrolmentFile, file.read_bytes())
    file.write_bytes(encode_enrolment(msgspec.structs.replace(found, **changes)))


def refused(file: Path, state: Path, match: str) -> None:
    """It fails in one line, and leaves no identity."""
    with pytest.raises(EnrolmentFailed, match=match) as caught:
        enroll(file, state)
    assert "\n" not in str(caught.value)
    with pytest.raises(NotEnrolled, match="outrider agent enroll"):
        load_identity(state)


def test_a_device_enrols_and_knows_who_it_is(file: Path, tmp_path: Path) -> None:
    state = tmp_path / "state"
    record = enroll(file, state)
    assert (record.device, record.device_class, record.broker_port) == (
        "pi-1",
        "raspberry-pi-5",
        8883,
    )
    identity = load_identity(state)
    assert identity.record == record
    assert identity.tls_context(clock_is_wrong=False).check_hostname
    assert (state / "identity" / "device.key").stat().st_mode & 0o777 == 0o600
    assert SECRET not in "".join(p.read_text("latin-1") for p in state.rglob("*") if p.is_file()), (
        "the secret is not kept"
    )
    assert sorted(p.name for p in state.iterdir()) == ["identity", "run", "tuf"]


def test_the_key_never_leaves_the_device(file: Path, hub: HubOverHttps, tmp_path: Path) -> None:
    enroll(file, tmp_path / "state")
    assert "PRIVATE" not in hub.requests[0].csr_pem


def test_a_second_enrolment_needs_force(file: Path, hub: HubOverHttps, tmp_path: Path) -> None:
    state = tmp_path / "state"
    enroll(file, state)
    before = (state / "identity" / "device.key").read_bytes()
    with pytest.raises(EnrolmentFailed, match="--force"):
        enroll(file, state)
    assert (state / "identity" / "device.key").read_bytes() == before
    enroll(file, state, force=True)
    assert (state / "identity" / "device.key").read_bytes() != before
    assert load_identity(state).device == "pi-1"


def test_a_try_that_was_cut_off_is_repeated_to_the_byte(
    file: Path, hub: HubOverHttps, tmp_path: Path
) -> None:
    hub.answer = lambda _request: (503, b"")
    refused(file, tmp_path / "state", "again later")
    hub.answer = hub.honest
    enroll(file, tmp_path / "state")
    first, second = hub.requests
    assert first == second
    names = sorted(p.name for p in (tmp_path / "state" / "identity").iterdir())
    assert names == ["ca.pem", "device.crt", "device.key", "enrolment.json"]


def test_another_file_makes_another_request(file: Path, hub: HubOverHttps, tmp_path: Path) -> None:
    hub.answer = lambda _request: (503, b"")
    refused(file, tmp_path / "state", "again later")
    other = "6f" * 32
    change(file, secret=other)
    hub.answer = lambda request: (200, hub.reply(request, "pi-1", secret=other))
    enroll(file, tmp_path / "state")
    first, second = hub.requests
    assert first.nonce != second.nonce


@pytest.mark.parametrize("name", ["device.key", "request.json"])
def test_what_a_cut_off_try_left_torn_is_made_anew(
    file: Path, hub: HubOverHttps, tmp_path: Path, name: str
) -> None:
    hub.answer = lambda _request: (503, b"")
    refused(file, tmp_path / "state", "again later")
    (tmp_path / "state" / "identity.pending" / name).write_bytes(b"torn")
    hub.answer = hub.honest
    assert enroll(file, tmp_path / "state").device == "pi-1"


@pytest.mark.parametrize(("same", "left"), [(True, 7), (False, 0)])
def test_another_hubs_metadata_may_have_lower_versions(
    file: Path, tmp_path: Path, same: bool, left: int
) -> None:
    state = tmp_path / "state"
    enroll(file, state)
    journal = Journal(state / "journal.sqlite")
    journal.save_trust(NOW_MS, {"timestamp": 7}, {"digits": 3})
    journal.close()
    if not same:
        change(file, root_json=new_root_json().decode())
    enroll(file, state, force=True)
    journal = Journal(state / "journal.sqlite")
    assert journal.trust_versions() == {"timestamp": left}
    assert journal.min_counter("digits") == 3, "a floor never falls"
    journal.close()


def test_a_reset_of_the_journal_that_was_cut_off_is_made_up_for(file: Path, tmp_path: Path) -> None:
    """Or the device would hold the new hub's metadata against the old one's numbers, for ever."""
    state = tmp_path / "state"
    enroll(file, state)
    journal = Journal(state / "journal.sqlite")
    journal.save_trust(NOW_MS, {"timestamp": 7}, {})
    journal._db.execute("PRAGMA user_version = 999")
    change(file, root_json=new_root_json().decode())
    with pytest.raises(EnrolmentFailed, match="journal"):
        enroll(file, state, force=True)

    journal._db.execute(f"PRAGMA user_version = {JOURNAL_SCHEMA}")
    enroll(file, state, force=True)
    assert journal.trust_versions() == {"timestamp": 0}
    journal.close()


class PowerLost(BaseException):
    """The process is gone at this point."""


@pytest.mark.parametrize("goes_at", ["identity.pending", "identity"])
def test_power_lost_while_the_identity_is_put_in_place_costs_a_repetition(
    file: Path, hub: HubOverHttps, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, goes_at: str
) -> None:
    """The secret is spent by then: the hub answers the very same request only."""
    state = tmp_path / "state"
    enroll(file, state)
    rename = Path.rename

    def cut(path: Path, target: Path) -> Path:
        if path.name == goes_at:
            raise PowerLost
        return rename(path, target)

    with monkeypatch.context() as patched:
        patched.setattr(Path, "rename", cut)
        with pytest.raises(PowerLost):
            enroll(file, state, force=True)
    enroll(file, state, force=True)
    _, cut_off, repeated = hub.requests
    assert repeated == cut_off
    names = sorted(p.name for p in (state / "identity").iterdir())
    assert names == ["ca.pem", "device.crt", "device.key", "enrolment.json"]


def test_a_running_agent_keeps_its_identity(file: Path, hub: HubOverHttps, tmp_path: Path) -> None:
    """It would write what it knows of the old hub over what belongs to the new one."""
    state = tmp_path / "state"
    enroll(file, state)
    before = (state / "identity" / "device.key").read_bytes()
    lock = StateLock(state)
    lock.acquire()
    with pytest.raises(EnrolmentFailed, match="stop it first"):
        enroll(file, state, force=True)
    assert len(hub.requests) == 1, "the file is not spent"
    assert (state / "identity" / "device.key").read_bytes() == before
    lock.release()
    enroll(file, state, force=True)
    assert (state / "identity" / "device.key").read_bytes() != before


def test_power_lost_between_the_renames_keeps_the_old_identity(file: Path, tmp_path: Path) -> None:
    state = tmp_path / "state"
    enroll(file, state)
    (state / "identity").rename(state / "identity.replaced")
    assert load_identity(state).device == "pi-1"


def test_an_expired_file_is_refused_before_anything_is_sent(
    file: Path, hub: HubOverHttps, tmp_path: Path
) -> None:
    change(file, expires_at_ms=NOW_MS - 10 * 60_000)
    refused(file, tmp_path / "state", r"expired \d+ minutes ago.*outrider device add")
    assert hub.requests == []


def test_a_clock_at_1970_neither_revives_an_expired_file_nor_stops_a_good_one(
    file: Path, tmp_path: Path
) -> None:
    enroll(file, tmp_path / "state", clock=lambda: 0)
    change(file, expires_at_ms=NOW_MS - 2000)
    with pytest.raises(EnrolmentFailed, match="expired"):
        enroll(file, tmp_path / "other", clock=lambda: 0)


def test_a_file_that_others_may_read_is_refused(file: Path, tmp_path: Path) -> None:
    file.chmod(0o644)
    refused(file, tmp_path / "state", "chmod 600")


@pytest.mark.parametrize("content", [b"", b"{}", b"\xff\x00", b"[" * 100_000])
def test_what_is_no_enrolment_file_is_refused(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "x"
    file.write_bytes(content)
    file.chmod(0o600)
    refused(file, tmp_path / "state", "not an enrolment file")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    refused(tmp_path / "nowhere", tmp_path / "state", "nowhere")


def test_a_hub_of_another_ca_is_refused(file: Path, tmp_path: Path, hub: HubOverHttps) -> None:
    change(file, ca_pem=Authority(tmp_path / "stranger").pem)
    refused(file, tmp_path / "state", "not the hub of the enrolment file")
    assert hub.requests == []


def test_a_hub_of_another_name_is_refused(file: Path, tmp_path: Path, hub: HubOverHttps) -> None:
    change(file, hub_url=f"https://127.0.0.2:{hub.port}")
    refused(file, tmp_path / "state", "not the hub of the enrolment file|cannot reach")


def test_a_hub_that_is_away_is_named_and_the_command_can_be_repeated(
    file: Path, tmp_path: Path
) -> None:
    change(file, hub_url="https://localhost:1")
    refused(file, tmp_path / "state", "cannot reach the hub at https://localhost:1")


def test_the_hubs_own_words_are_passed_on(file: Path, hub: HubOverHttps, tmp_path: Path) -> None:
    said = {"error": {"code": "spent", "message": "this file was used\nbefore"}}
    hub.answer = lambda _request: (403, json.dumps(said).encode())
    refused(file, tmp_path / "state", "this file was usedbefore")


def test_advice_that_the_hub_gave_is_not_given_twice(
    file: Path, hub: HubOverHttps, tmp_path: Path
) -> None:
    said = {"error": {"code": "spent", "message": "spent: ask for one (`outrider device add`)"}}
    hub.answer = lambda _request: (403, json.dumps(said).encode())
    with pytest.raises(EnrolmentFailed) as caught:
        enroll(file, tmp_path / "state")
    assert str(caught.value).count("outrider device add") == 1


@pytest.mark.parametrize(
    "pem", ["", "x", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"]
)
def test_a_damaged_ca_is_named_as_such_and_nothing_is_sent(
    file: Path, hub: HubOverHttps, tmp_path: Path, pem: str
) -> None:
    change(file, ca_pem=pem)
    refused(file, tmp_path / "state", f"{file.name} is not an enrolment file .*ca_pem")
    assert hub.requests == []


def test_a_reply_made_without_the_secret_is_refused(
    file: Path, hub: HubOverHttps, tmp_path: Path
) -> None:
    hub.answer = lambda request: (200, hub.reply(request, "pi-1", secret="00" * 32))
    refused(file, tmp_path / "state", "somebody else answered")


def test_a_certificate_for_another_name_is_refused(
    file: Path, hub: HubOverHttps, tmp_path: Path
) -> None:
    hub.answer = lambda request: (200, hub.reply(request, "pi-2"))
    refused(file, tmp_path / "state", "not for pi-1")


def test_a_certificate_for_another_key_is_refused(
    file: Path, hub: HubOverHttps, tmp_path: Path
) -> None:
    other = ec.generate_private_key(ec.SECP256R1()).public_key()
    hub.answer = lambda request: (200, hub.reply(request, "pi-1", key=other))
    refused(file, tmp_path / "state", "another key")


def test_a_certificate_of_another_ca_is_refused(
    file: Path, hub: HubOverHttps, tmp_path: Path
) -> None:
    stranger = Authority(tmp_path / "stranger")
    hub.answer = lambda request: (200, hub.reply(request, "pi-1", by=stranger))
    refused(file, tmp_path / "state", "does not lead to a CA that this device trusts")


def test_a_root_that_is_no_root_is_refused(file: Path, tmp_path: Path) -> None:
    change(file, root_json="{}")
    refused(file, tmp_path / "state", "cannot keep the identity")


@pytest.mark.parametrize("name", ["device.key", "enrolment.json"])
def test_a_damaged_identity_says_what_to_do(file: Path, tmp_path: Path, name: str) -> None:
    state = tmp_path / "state"
    enroll(file, state)
    (state / "identity" / name).write_bytes(b"damaged")
    with pytest.raises(IdentityError, match="enroll --force"):
        load_identity(state)


def pending(request: EnrolmentRequest) -> tuple[int, bytes]:
    answer = EnrolmentPending(device=request.device, key_id="ab" * 32, retry_s=7)
    return 202, encode_enrolment(answer)


def test_it_waits_for_an_operator_and_asks_again_with_the_same_request(
    file: Path, hub: HubOverHttps, tmp_path: Path
) -> None:
    told: list[EnrolmentPending] = []
    slept: list[float] = []
    answers = [pending, lambda _r: (503, b""), pending, lambda _r: (429, b""), hub.honest]
    hub.answer = lambda request: answers.pop(0)(request)
    enroll(file, tmp_path / "state", waiting=told.append, sleep=slept.append)
    assert [each.key_id for each in told] == ["ab" * 32]
    assert slept == [7, 30, 7, 30]
    assert len({encode_enrolment(request) for request in hub.requests}) == 1
    assert load_identity(tmp_path / "state").device == "pi-1"


def test_an_operators_no_ends_the_waiting(file: Path, hub: HubOverHttps, tmp_path: Path) -> None:
    answers: list[Answer] = [pending, lambda _r: (403, b"")]
    hub.answer = lambda request: answers.pop(0)(request)
    with pytest.raises(EnrolmentFailed, match="refused to enrol pi-1"):
        enroll(file, tmp_path / "state", sleep=lambda _s: None)


def test_waiting_that_was_cut_off_goes_on_after_the_file_has_expired(
    file: Path, hub: HubOverHttps, tmp_path: Path
) -> None:
    def switched_off(_seconds: float) -> None:
        raise KeyboardInterrupt

    hub.answer = pending
    with pytest.raises(KeyboardInterrupt):
        enroll(file, tmp_path / "state", sleep=switched_off)
    hub.answer = hub.honest
    late_ms = NOW_MS + 2 * HOUR_MS
    record = enroll(file, tmp_path / "state", clock=lambda: late_ms)
    assert record.device == "pi-1"
    assert hub.requests[0] == hub.requests[1]


def test_it_says_which_machine_it_is_and_no_more_than_a_line(
    file: Path, hub: HubOverHttps, tmp_path: Path
) -> None:
    enroll(file, tmp_path / "state")
    claims = hub.requests[0].claims
    assert claims.host
    assert all(text.isprintable() for text in (claims.host, claims.model, claims.serial))
