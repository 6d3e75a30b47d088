"""Ends a session at the broker by taking its place: the hub connects once in the client's own name.

Mosquitto keeps the session of a client whose certificate was revoked while it is connected; it ends
one when another client of the same id comes. Only the hub's CA can make a certificate in that name;
this one lasts minutes, and its key never outlives the connection.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from paho.mqtt.client import Client
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

from fleet.ca import Authority
from fleet.issuing import key_pem

WAIT_S = 5.0
REFUSAL_WAIT_S = 1.0
"""How long a broker may take to refuse a certificate; one that takes it says nothing."""


class TakeoverFailed(Exception):
    """The broker did not let the hub in under that name."""


@dataclass(frozen=True)
class Broker:
    """Where it is, as seen from the hub."""

    host: str
    port: int


def end_session(broker: Broker, authority: Authority, client_id: str, now_ms: int) -> None:
    """Whoever is connected as `client_id` no longer is; raises `TakeoverFailed`."""
    key = generate_private_key(SECP256R1())
    issued = authority.issue_brief(client_id, key.public_key(), now_ms)
    with _context(authority, issued.chain_pem.encode(), key_pem(key)) as context:
        _connect_once(broker, client_id, context)


def is_refused(broker: Broker, authority: Authority, certificate: bytes, key: bytes) -> bool:
    """Whether the broker refuses this client certificate; raises `OSError` when it is not there."""
    with (
        _context(authority, certificate, key) as context,
        socket.create_connection((broker.host, broker.port), WAIT_S) as plain,
    ):
        try:
            with context.wrap_socket(plain, server_hostname=broker.host) as secured:
                # In TLS 1.3 the client is done before the server has looked at its certificate.
                secured.settimeout(REFUSAL_WAIT_S)
                return secured.recv(1) == b""
        except TimeoutError:
            return False
        except ssl.SSLCertVerificationError:
            raise
        except (ssl.SSLError, ConnectionError):
            return True


@contextlib.contextmanager
def _context(authority: Authority, certificate: bytes, key: bytes) -> Iterator[ssl.SSLContext]:
    """OpenSSL takes certificates from files alone: these are private, and gone afterwards."""
    context = ssl.create_default_context(cadata=authority.roots_pem())
    with tempfile.TemporaryDirectory(prefix="outrider-") as folder:
        for name, data in (("crt", certificate), ("key", key)):
            (Path(folder) / name).touch(mode=0o600)
            (Path(folder) / name).write_bytes(data)
        context.load_cert_chain(Path(folder) / "crt", Path(folder) / "key")
    yield context


def _connect_once(broker: Broker, client_id: str, context: ssl.SSLContext) -> None:
    answered = threading.Event()
    accepted = False

    def on_connect(_client: Client, _data: Any, _flags: Any, reason: Any, _p: Any) -> None:
        nonlocal accepted
        accepted = not reason.is_failure
        answered.set()

    # Once and never again: a second try would come when nobody waits for it any more, and put out
    # whoever has the name by then.
    client = Client(
        CallbackAPIVersion.VERSION2,
        client_id=client_id,
        protocol=MQTTProtocolVersion.MQTTv5,
        reconnect_on_failure=False,
    )
    client.tls_set_context(context)
    client.on_connect = on_connect
    client.on_disconnect = lambda *_: answered.set()
    try:
        client.connect(broker.host, broker.port, keepalive=30, clean_start=True)
        client.loop_start()
        answered.wait(WAIT_S)
        if not accepted:
            raise TakeoverFailed(f"the broker does not let the hub in as {client_id}")
    except (OSError, ValueError) as error:
        raise TakeoverFailed(f"the broker cannot be reached as {client_id}: {error}") from error
    finally:
        client.disconnect()
        client.loop_stop()
