"""What an operator hears when the hub's certificate is not believed: real TLS, real refusals."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from outrider.client import HubClient
from outrider.errors import HubUnreachable
from outrider.operator import OperatorConfig
from outrider.tls_failures import explain
from tests.mosquitto import Authority


@pytest.fixture
def ours(tmp_path: Path) -> Authority:
    return Authority(tmp_path / "ours", "our CA")


@pytest.fixture
def port(ours: Authority) -> Iterator[int]:
    """A server that shows a certificate of `ours`, for `localhost` and 127.0.0.1."""
    with serving(ours, "127.0.0.1") as found:
        yield found


@contextmanager
def serving(authority: Authority, address: str) -> Iterator[int]:
    shown = authority.server()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(shown.certificate, shown.key)
    listener = socket.create_server((address, 0))

    def serve() -> None:
        while True:
            try:
                taken, _ = listener.accept()
            except OSError:
                return
            with taken:
                try:
                    context.wrap_socket(taken, server_side=True).close()
                except (ssl.SSLError, OSError):
                    continue

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield int(listener.getsockname()[1])
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join()


def said(url: str, ca_pem: str) -> str:
    config = OperatorConfig(url=url, token="t" * 32, ca_pem=ca_pem)
    with HubClient(config) as client, pytest.raises(HubUnreachable) as caught:
        client.get("status")
    return str(caught.value)


def test_another_ca_is_named_with_the_way_out(tmp_path: Path, port: int) -> None:
    message = said(f"https://127.0.0.1:{port}", Authority(tmp_path / "other", "other CA").pem)
    assert f"127.0.0.1:{port} shows a certificate of another CA" in message
    assert "`outrider hub follow`" in message
    assert "copy the operator configuration" in message
    assert "hub serve" not in message


def test_a_ca_of_the_same_name_with_another_key_is_another_ca(tmp_path: Path, port: int) -> None:
    message = said(f"https://127.0.0.1:{port}", Authority(tmp_path / "twin", "our CA").pem)
    assert "of another CA" in message


def test_another_name_is_not_another_ca(ours: Authority) -> None:
    with serving(ours, "127.0.0.2") as port:
        message = said(f"https://127.0.0.2:{port}", ours.pem)
    assert "for other names" in message
    assert "follow" not in message


def test_a_hub_that_is_not_there_is_asked_to_be_started(ours: Authority) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        free = taken.getsockname()[1]
    assert "is `outrider hub serve` running there?" in said(f"https://127.0.0.1:{free}", ours.pem)


@pytest.mark.parametrize(("code", "word"), [(9, "clock"), (10, "clock"), (23, "revoked")])
def test_every_other_refusal_keeps_openssl_s_words(code: int, word: str) -> None:
    error = ssl.SSLCertVerificationError("verify failed")
    error.verify_code, error.verify_message = code, "certificate revoked"
    told = explain(error, "hub:8443")
    assert told is not None
    assert word in told
    assert "certificate revoked" in told


def test_what_is_no_verification_is_left_alone() -> None:
    assert explain(TimeoutError("timed out"), "hub:8443") is None
