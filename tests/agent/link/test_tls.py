"""What a device's TLS lets through, by real handshakes with a hub's own certificates."""

from __future__ import annotations

import ssl
import time
from pathlib import Path

import pytest

from agent.link.tls import trust_only
from fleet.ca import Authority

DAY_MS = 86_400_000
NOW_MS = time.time_ns() // 1_000_000


def authority(directory: Path, host: str = "localhost", made_ms: int = NOW_MS) -> Authority:
    directory.mkdir()
    made = Authority(directory)
    made.create("hub", [host], made_ms)
    return made


def handshake(client: ssl.SSLContext, server: Authority) -> None:
    """Between two ends in memory; raises what the client has against the server."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*map(str, server.pair("api")))
    to_client, to_server = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = [
        client.wrap_bio(to_client, to_server, server_hostname="localhost"),
        context.wrap_bio(to_server, to_client, server_side=True),
    ]
    while ends:
        for end in list(ends):
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                continue
            ends.remove(end)


@pytest.mark.parametrize("clock_is_wrong", [False, True])
def test_the_hubs_own_certificate_is_taken(tmp_path: Path, clock_is_wrong: bool) -> None:
    hub = authority(tmp_path / "ca")
    handshake(trust_only(hub.root_pem(), clock_is_wrong), hub)


@pytest.mark.parametrize("clock_is_wrong", [False, True])
def test_another_ca_is_refused_whatever_the_clock(tmp_path: Path, clock_is_wrong: bool) -> None:
    hub, stranger = authority(tmp_path / "ca"), authority(tmp_path / "stranger")
    with pytest.raises(ssl.SSLCertVerificationError, match=r"issuer|self.signed"):
        handshake(trust_only(hub.root_pem(), clock_is_wrong), stranger)


@pytest.mark.parametrize("clock_is_wrong", [False, True])
def test_another_name_is_refused_whatever_the_clock(tmp_path: Path, clock_is_wrong: bool) -> None:
    hub = authority(tmp_path / "ca", host="elsewhere.example")
    with pytest.raises(ssl.SSLCertVerificationError, match="Hostname mismatch"):
        handshake(trust_only(hub.root_pem(), clock_is_wrong), hub)


@pytest.mark.parametrize("days", [-500, 500])
def test_dates_count_unless_the_clock_is_known_to_be_wrong(tmp_path: Path, days: int) -> None:
    hub = authority(tmp_path / "ca", made_ms=NOW_MS + days * DAY_MS)
    with pytest.raises(ssl.SSLCertVerificationError, match=r"expired|not yet valid"):
        handshake(trust_only(hub.root_pem(), clock_is_wrong=False), hub)
    handshake(trust_only(hub.root_pem(), clock_is_wrong=True), hub)
