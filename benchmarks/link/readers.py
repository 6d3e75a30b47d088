"""The two kinds of reader that are compared, each a process of its own.

`device` is the agent's link and staging area: window, digests, chunks into place on disk. `paho` is
the least that a program can do with the library: subscribe to the same topics, count the bytes.
Both say `ready`, wait for a line, then connect and read, and print seconds and bytes.
"""

from __future__ import annotations

import sys
import threading
import time
from pathlib import Path

import msgspec
from paho.mqtt.client import Client, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

from agent.link.blobs import MqttBlobSource
from agent.link.collector import Collectors
from agent.link.connection import Connection, Endpoint, Publication
from agent.link.inbox import Inbox
from agent.link.rejects import Rejects
from agent.link.router import Router
from agent.ports import BlobRef
from agent.store.staging import Staging, plan_files
from benchmarks.link.scene import BLOBS
from contract.codec import encode
from contract.manifest import FileRef
from contract.messages import Death
from contract.topics import Channel, device_topic
from tests.mosquitto import Credentials


class Task(msgspec.Struct, frozen=True):
    """What a reader is to do, as one argument of its command line."""

    kind: str
    device: str
    port: int
    certificate: str
    key: str
    ca: str
    messages: int
    file: FileRef
    chunks: str
    """Where the file's binary chunk list lies."""
    staging: str


class Read(msgspec.Struct, frozen=True):
    """What a reader printed."""

    seconds: float
    received: int
    """Payload bytes."""


def link(device: str, port: int, who: Credentials) -> tuple[Connection, Collectors]:
    """A device's link, put together as the agent does it."""
    collectors = Collectors()
    router = Router(device, Inbox(), collectors, Rejects())
    death = encode(Death(device=device, session="0" * 32))
    will = Publication(device_topic(device, Channel.PRESENCE), death, retain=True)
    endpoint = Endpoint("localhost", port, device, who.context, will)
    return Connection(endpoint, router.route), collectors


def read_as_device(task: Task, who: Credentials) -> int:
    """Every chunk of the file, verified and in its place below the staging folder."""
    packed = Path(task.chunks).read_bytes()
    plan = plan_files([(task.file, packed)])
    staging = Staging(Path(task.staging))
    staging.prepare(plan)
    wanted = [BlobRef(digest, length) for digest, length in plan.lengths.items()]
    connection, collectors = link(task.device, task.port, who)
    connection.start()
    source = MqttBlobSource(connection, collectors, task.device)

    def keep(ref: BlobRef, data: bytes) -> None:
        staging.keep(plan, ref.digest, data)

    try:
        return source.fetch("digits/1", wanted, keep, lambda: False)
    finally:
        connection.stop()


def read_with_paho(task: Task, who: Credentials) -> int:
    """The same retained messages, counted and dropped."""
    client = Client(CallbackAPIVersion.VERSION2, task.device, protocol=MQTTProtocolVersion.MQTTv5)
    client.tls_set_context(who.context())
    done, received = threading.Event(), [0, 0]

    def take(_client: Client, _data: object, message: MQTTMessage) -> None:
        received[0] += 1
        received[1] += len(message.payload)
        if received[0] == task.messages:
            done.set()

    client.on_message = take
    client.on_connect = lambda client, *_: client.subscribe(BLOBS, 1)
    client.connect("localhost", task.port)
    client.loop_start()
    assert done.wait(110), f"{received[0]} of {task.messages} messages came"
    client.disconnect()
    client.loop_stop()
    return received[1]


def main() -> None:
    """One reading."""
    task = msgspec.json.decode(sys.argv[1], type=Task)
    who = Credentials(Path(task.certificate), Path(task.key), Path(task.ca))
    read = {"device": read_as_device, "paho": read_with_paho}[task.kind]
    print("ready", flush=True)
    sys.stdin.readline()
    started = time.monotonic()
    received = read(task, who)
    print(msgspec.json.encode(Read(time.monotonic() - started, received)).decode(), flush=True)


if __name__ == "__main__":
    main()
