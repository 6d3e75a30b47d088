"""How fast an artifact comes over HTTPS, from the hub and from its bucket, beside curl.

curl reads the same bytes in one request over the same TLS: from a plain file server with the hub's
certificate, and from the S3 server, and looks at nothing. `device` asks, checks each chunk and
writes it to its place. Run as a module, this is that device, a process of its own.
"""

from __future__ import annotations

import shutil
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import uvicorn
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from starlette.applications import Starlette
from starlette.responses import FileResponse
from starlette.routing import Route

from agent.hub_https import asking
from agent.link.https_blobs import HttpsBlobSource
from agent.link.tls import trust_only
from agent.object_store import StoreTrust
from agent.ports import BlobRef
from agent.store.staging import Staging, plan_files
from benchmarks.link.goodput import Artifact
from benchmarks.link.readers import Read
from benchmarks.link.scene import Scene, until
from contract.blob_places import PLACES_TYPE
from contract.blob_request import BlobRequest, sign_blob_request
from contract.manifest import FileRef
from contract.messages import FamilyAssignment
from fleet.assembly import system_clock
from fleet.assignments import assign
from fleet.bucket import Bucket
from fleet.ca import Authority
from fleet.config import CONFIG_FILE, read_config
from fleet.releases import find_release
from tests.fleet.harness import enrolled
from tests.mosquitto import free_port
from tests.s3 import KEYS, S3Server

DEVICE = "https-1"
TARGET = "digits/1"


class HttpsTask(msgspec.Struct, frozen=True):
    """What the device is to fetch, as one argument of its command line."""

    hub_url: str
    ca: str
    key: str
    file: FileRef
    chunks: str
    staging: str
    store_ca: str
    """Empty: it does not ask for places, and the hub gives every blob."""


def use_bucket(directory: Path, store: S3Server) -> None:
    """Put the bucket into the configuration of a hub that is not started yet."""
    keys = directory / "hub" / "s3-keys.json"
    names = {"access_key_id": KEYS.access_key_id, "secret_access_key": KEYS.secret_access_key}
    keys.write_bytes(msgspec.json.encode(names))
    keys.chmod(0o600)
    path = directory / "hub" / CONFIG_FILE
    settings = msgspec.json.decode(path.read_bytes())
    settings["bucket"] = msgspec.to_builtins(store.config(credentials_file=str(keys)))
    path.write_bytes(msgspec.json.encode(settings))


def enrol(scene: Scene) -> EllipticCurvePrivateKey:
    """A device to which the artifact's release is assigned."""
    with scene.hub.at_rest() as services:
        device = enrolled(services, DEVICE)
        with services.storage.session() as session:
            digest = find_release(session, TARGET).digest
            wanted = FamilyAssignment(target=TARGET, digest=digest, rollout="r1")
            assign(session, DEVICE, "digits", wanted, services.clock())
    return device.key


def wait_for_bucket(scene: Scene, key: EllipticCurvePrivateKey, digest: str) -> None:
    """Until the hub answers with places."""
    context = trust_only(scene.ca.read_text(), clock_is_wrong=False)
    url = read_config(scene.hub.hub).api_url

    def placed() -> bool:
        request = BlobRequest(device=DEVICE, target=TARGET, digests=[digest], at_ms=system_clock())
        body = sign_blob_request(request, key)
        with asking(url, "/api/v1/blobs", context, body, PLACES_TYPE) as incoming:
            return incoming.media_type == PLACES_TYPE

    until(placed, "the release in the bucket")


def device_s(
    scene: Scene, artifact: Artifact, key: EllipticCurvePrivateKey, store: S3Server | None
) -> float:
    """Seconds until a device has every chunk in its place."""
    folder = scene.directory / "https-staging"
    pem = scene.directory / "https.key"
    pem.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    task = HttpsTask(
        hub_url=read_config(scene.hub.hub).api_url,
        ca=str(scene.ca),
        key=str(pem),
        file=artifact.file,
        chunks=str(artifact.chunks),
        staging=str(folder),
        store_ca=str(store.ca_file) if store else "",
    )
    command = [sys.executable, "-m", "benchmarks.link.https", msgspec.json.encode(task).decode()]
    done = subprocess.run(command, capture_output=True, check=True, text=True)
    shutil.rmtree(folder)
    return msgspec.json.decode(done.stdout, type=Read).seconds


def curl_s(url: str, ca: Path, size: int) -> float:
    """Seconds for one request of everything, by curl's own account of the transfer."""
    told = "%{time_total} %{size_download}"
    command = ["curl", "-sS", "--fail", "--cacert", str(ca), "-o", "/dev/null", "-w", told, url]
    done = subprocess.run(command, capture_output=True, check=True, text=True)
    seconds, got = done.stdout.split()
    assert int(got) == size, done.stdout
    return float(seconds)


@contextmanager
def file_server(scene: Scene, file: Path) -> Iterator[str]:
    """What one would set up instead: a file behind the hub's own server program and certificate."""
    app = Starlette(routes=[Route("/file", lambda _request: FileResponse(file))])
    certificate, key = Authority(scene.hub.hub / "ca").pair("api")
    port = free_port()
    config = uvicorn.Config(
        app,
        host="127.0.0.1",
        port=port,
        ssl_certfile=str(certificate),
        ssl_keyfile=str(key),
        log_level="warning",
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        until(lambda: server.started, "the file server")
        yield f"https://localhost:{port}/file"
    finally:
        server.should_exit = True
        thread.join(10)


def address_of_all(scene: Scene, store: S3Server) -> tuple[str, int]:
    """A signed address of the whole object, and its length."""
    (path,) = store.packs()
    bucket = read_config(scene.hub.hub).bucket
    assert bucket is not None
    return Bucket(bucket, KEYS).address(path.name), path.stat().st_size


def alternately(rounds: int, **sides: Callable[[], float]) -> dict[str, float]:
    """Medians in seconds, every side in turn, so that a busy moment hits all."""
    found: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(rounds):
        for name, side in sides.items():
            found[name].append(side())
    return {name: statistics.median(seconds) for name, seconds in found.items()}


def main() -> None:
    """One fetch."""
    task = msgspec.json.decode(sys.argv[1], type=HttpsTask)
    plan = plan_files([(task.file, Path(task.chunks).read_bytes())])
    staging = Staging(Path(task.staging))
    staging.prepare(plan)
    wanted = [BlobRef(digest, length) for digest, length in plan.lengths.items()]
    key = load_pem_private_key(Path(task.key).read_bytes(), None)
    assert isinstance(key, EllipticCurvePrivateKey)
    ca = Path(task.ca).read_text()
    source = HttpsBlobSource(
        task.hub_url,
        DEVICE,
        key,
        lambda: trust_only(ca, clock_is_wrong=False),
        system_clock,
        store=StoreTrust(Path(task.store_ca) if task.store_ca else None),
    )
    if not task.store_ca:
        source.leave_store_alone()

    def keep(ref: BlobRef, data: bytes) -> None:
        staging.put(plan, ref.digest, data)

    started = time.monotonic()
    received = source.fetch(TARGET, wanted, keep, lambda: False)
    print(msgspec.json.encode(Read(time.monotonic() - started, received)).decode(), flush=True)


if __name__ == "__main__":
    main()
