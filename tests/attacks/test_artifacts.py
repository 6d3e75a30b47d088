"""What is offered as a release's bytes, by the broker or by the device's own disk."""

from __future__ import annotations

import pytest
import zstandard

from agent.store.layout import Layout, file_path
from contract.deployments import Cause
from contract.topics import blob_topic
from model.chunks import frame
from tests.agent.deployment.device import FAMILY
from tests.agent.deployment.releases import Released
from tests.agent.wire import eventually
from tests.attacks.scene import Scene
from tests.mosquitto import Mosquitto


@pytest.fixture
def chunks(v1: Released, v2: Released) -> list[str]:
    """The digests of the chunks of v2 that a device with v1 does not have."""
    lists = {ref.chunks.digest for ref in v2.manifest.device_files if ref.chunks}
    return [d for d in v2.blobs if d not in {v2.digest, *lists, *v1.blobs}]


@pytest.fixture
def chunk(chunks: list[str]) -> str:
    """One of them."""
    return chunks[0]


def test_a_tampered_chunk(scene: Scene, v2: Released, chunk: str) -> None:
    scene.hub.retain(blob_topic(chunk), frame(b"other bytes"))
    scene.refuses(v2, Cause.TAMPERED)


def test_a_chunk_that_was_altered_in_one_bit(scene: Scene, v2: Released, chunk: str) -> None:
    data = bytearray(v2.blobs[chunk])
    data[len(data) // 2] ^= 1
    scene.hub.retain(blob_topic(chunk), b"\0" + bytes(data))
    scene.refuses(v2, Cause.TAMPERED)


def test_a_short_chunk(scene: Scene, v2: Released, chunk: str) -> None:
    scene.hub.retain(blob_topic(chunk), b"\0" + v2.blobs[chunk][:-1])
    scene.refuses(v2, Cause.TAMPERED)


def test_a_chunk_that_goes_on(scene: Scene, v2: Released, chunk: str) -> None:
    scene.hub.retain(blob_topic(chunk), b"\0" + v2.blobs[chunk] + b"more")
    scene.refuses(v2, Cause.TAMPERED)


def test_an_endless_chunk(scene: Scene, v2: Released, chunk: str) -> None:
    """Longer than any chunk may be: not even looked at, so it counts as not held."""
    scene.hub.retain(blob_topic(chunk), b"\0" * (1 << 20))
    scene.refuses(v2, Cause.TRANSPORT)


def test_a_compressed_bomb(scene: Scene, v2: Released, chunk: str) -> None:
    bomb = b"\1" + zstandard.ZstdCompressor().compress(b"\0" * (1 << 28))
    assert len(bomb) < 120 * 1024
    scene.hub.retain(blob_topic(chunk), bomb)
    scene.refuses(v2, Cause.TAMPERED)


def test_another_release_s_manifest(scene: Scene, v1: Released, v2: Released) -> None:
    scene.hub.retain(blob_topic(v2.digest), frame(v1.manifest_bytes))
    scene.refuses(v2, Cause.TAMPERED)


def test_an_empty_chunk(scene: Scene, v2: Released, chunk: str) -> None:
    """It means "not held", never "tampered"; the hub is asked, and the update goes on."""
    scene.hub.retain(blob_topic(chunk), b"")
    scene.refuses(v2, Cause.TRANSPORT)

    scene.hub.retain(blob_topic(chunk), v2.payloads[chunk])
    scene.recovers(v2)


def test_a_broker_whose_memory_is_wiped_in_mid_fetch(
    scene: Scene, v2: Released, chunks: list[str], chunk: str, broker: Mosquitto
) -> None:
    """Nothing is fetched twice, and nothing but the network is blamed."""
    scene.hub.retain(blob_topic(chunk), b"")
    scene.refuses(v2, Cause.TRANSPORT)
    broker.restart()
    eventually(lambda: scene.hub.connected)
    scene.publish_trust()
    scene.later()
    assert scene.told() is Cause.TRANSPORT

    scene.hub.retain(blob_topic(chunk), v2.payloads[chunk])
    scene.recovers(v2)
    assert scene.state().figures["chunks_fetched"] == len(chunks)


# What lies on the device's own disk


def test_a_poisoned_staging_file(scene: Scene, v2: Released, chunk: str) -> None:
    """Half a download is there, with other bytes in it: only what has its digest is used."""
    scene.hub.retain(blob_topic(chunk), b"")
    scene.refuses(v2, Cause.TRANSPORT)
    staged = Layout(scene.state_dir).staged(v2.digest)
    model = file_path(staged, v2.variant.model)
    model.write_bytes(b"\xff" * model.stat().st_size)
    (staged / "manifest.json").write_bytes(b'{"poisoned": true}')
    (staged / "files" / "stray.bin").write_bytes(b"x")

    scene.publish_blobs(v2)
    scene.recovers(v2)
    installed = Layout(scene.state_dir).installed(FAMILY, v2.digest)
    assert file_path(installed, v2.variant.model).stat().st_size == v2.variant.model.length


def test_a_staging_file_that_is_a_way_out(scene: Scene, v2: Released, v1: Released) -> None:
    """A link in place of the download's folder leads nowhere."""
    victim = scene.state_dir / "journal.sqlite"
    before = victim.read_bytes()[:100]
    staged = Layout(scene.state_dir).staged(v2.digest)
    model = file_path(staged, v2.variant.model)
    model.parent.mkdir(parents=True)
    model.symlink_to(victim)
    scene.serve(v2)
    assert victim.read_bytes()[:16] == before[:16]
    assert not model.is_symlink()


def test_a_model_that_was_altered_on_disk_offers_nothing(
    scene: Scene, v1: Released, v2: Released
) -> None:
    """Its chunks are not reused, and the release behind it is whole all the same."""
    model = file_path(Layout(scene.state_dir).installed(FAMILY, v1.digest), v1.variant.model)
    data = bytearray(model.read_bytes())
    data[100] ^= 1
    model.write_bytes(bytes(data))
    scene.serve(v2)


def test_a_model_that_was_altered_while_the_device_was_off(
    scene: Scene, v1: Released, v2: Released
) -> None:
    before = scene.answers()
    scene.serve(v2)
    scene.power_off()
    model = file_path(Layout(scene.state_dir).installed(FAMILY, v2.digest), v2.variant.model)
    data = bytearray(model.read_bytes())
    data[100] ^= 1
    model.write_bytes(bytes(data))

    scene.boot()
    assert scene.serving() == v1.digest
    assert scene.answers() == before
