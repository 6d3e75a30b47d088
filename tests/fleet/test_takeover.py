"""Taking a session over at a broker that misbehaves: it ends with the call, whatever happens.

How it goes at a real Mosquitto is in test_revocation.py.
"""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from fleet import takeover
from fleet.assembly import system_clock
from fleet.ca import Authority
from fleet.takeover import Broker, TakeoverFailed, end_session


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    directory = tmp_path / "ca"
    directory.mkdir()
    authority = Authority(directory)
    authority.create("hub", ["localhost"], system_clock())
    return authority


class DroppingBroker:
    """Ends the first connection at once, and keeps the next one waiting for its handshake."""

    def __init__(self, authority: Authority) -> None:
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(*map(str, authority.pair("api")))
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.go_on = threading.Event()
        self.closed = threading.Event()
        self.connected_again = threading.Event()
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        with self._context.wrap_socket(self._listener.accept()[0], server_side=True):
            pass
        self._listener.settimeout(0.1)
        while not self.closed.is_set():
            try:
                plain = self._listener.accept()[0]
            except TimeoutError:
                continue
            with plain:
                self.go_on.wait(10)
                self._wait_for_connect(plain)

    def _wait_for_connect(self, plain: socket.socket) -> None:
        try:
            plain.settimeout(5)
            with self._context.wrap_socket(plain, server_side=True) as secured:
                if secured.recv(1):
                    self.connected_again.set()
        except OSError:
            pass

    def close(self) -> None:
        self.go_on.set()
        self.closed.set()
        self._thread.join()
        self._listener.close()


@pytest.fixture
def broker(authority: Authority) -> Iterator[DroppingBroker]:
    broker = DroppingBroker(authority)
    yield broker
    broker.close()


def test_who_was_not_let_in_does_not_come_again_in_a_devices_name(
    authority: Authority, broker: DroppingBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A second try after the call would end the session of the device that has the name now."""
    monkeypatch.setattr(takeover, "WAIT_S", 2.0)
    before = threading.active_count()
    with pytest.raises(TakeoverFailed, match="cam-1"):
        end_session(Broker("localhost", broker.port), authority, "cam-1", system_clock())
    broker.go_on.set()
    assert not broker.connected_again.wait(2)
    assert threading.active_count() == before
