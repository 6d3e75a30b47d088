"""Who else may be on the broker: strangers, and other devices under this one's name.

The rights of each certificate are tested on the hub's own broker in tests/fleet/test_broker.py.
"""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest
from paho.mqtt.client import Client
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

from tests.agent.wire import DEVICE
from tests.attacks.scene import Scene
from tests.mosquitto import Authority, Credentials, Mosquitto


def named_like_the_device(context: ssl.SSLContext | None) -> Client:
    client = Client(CallbackAPIVersion.VERSION2, DEVICE, protocol=MQTTProtocolVersion.MQTTv5)
    if context is not None:
        client.tls_set_context(context)
    return client


def accepted(client: Client, broker: Mosquitto) -> bool:
    """Whether the broker lets it in."""
    try:
        client.connect("localhost", broker.port)
        while client.loop(0.05) == 0:
            if client.is_connected():
                return True
    except OSError:
        return False
    return False


def test_a_certificate_of_another_ca_with_the_device_s_name(
    scene: Scene, broker: Mosquitto, authority: Authority, tmp_path: Path
) -> None:
    stranger = Authority(tmp_path / "elsewhere").client(DEVICE)
    believes = Credentials(stranger.certificate, stranger.key, authority.path)
    cut_off = scene.link.connection.generation
    client = named_like_the_device(believes.context())
    assert not accepted(client, broker)
    assert scene.link.connection.connected
    assert scene.link.connection.generation == cut_off
    assert scene.answers()


@pytest.mark.parametrize("encrypted", [True, False])
def test_no_certificate_at_all(
    scene: Scene, broker: Mosquitto, authority: Authority, encrypted: bool
) -> None:
    cut_off = scene.link.connection.generation
    context = ssl.create_default_context(cafile=str(authority.path)) if encrypted else None
    client = named_like_the_device(context)
    assert not accepted(client, broker)
    assert scene.link.connection.generation == cut_off
    assert scene.answers()


def test_another_device_s_certificate_with_the_device_s_client_id(
    scene: Scene, broker: Mosquitto, authority: Authority
) -> None:
    """The certificate decides: nobody is cut off."""
    cut_off = scene.link.connection.generation
    client = named_like_the_device(authority.client("spy").context())
    assert accepted(client, broker)
    scene.guard.refresh()
    assert scene.link.connection.generation == cut_off
    assert scene.answers()
    client.disconnect()
