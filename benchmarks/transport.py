"""What the link costs, beside what one would use instead. All sides in one run, on the loopback.

    python -m benchmarks.transport            # about four minutes on two cores
    python -m benchmarks.transport goodput    # one part: goodput, crowd, delta, metadata or https

Needs Mosquitto and its client programs (`apt-get install mosquitto mosquitto-clients`), curl, and
the packages of the extras `agent,converter,s3,dev`. The figures stand in docs/benchmarks.md.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from agent.deployment.fetching import Tally
from agent.ports import BlobRef
from benchmarks.link import crowd, goodput, https, metadata
from benchmarks.link.delta import FAMILY, Receiver, converted, write_models
from benchmarks.link.scene import Scene, running, weights
from converter.trust.signing import sign_bundle
from fleet.assembly import system_clock
from model.archive import open_bundle
from model.chunks import chunk_list
from tests.s3 import s3_server
from tests.trust.ceremony import PASSPHRASE, write_release

ARTIFACT_BYTES = 48 << 20
ROUNDS = 3
SHORT_ROUNDS = 9
"""For what takes a tenth of a second, and is at the mercy of whatever else runs."""
SLOW_S = 20.0


@dataclass(frozen=True)
class Row:
    """One line of the table: ours, what stands beside it, and the bound on their ratio, if any."""

    what: str
    ours: str
    beside: str
    ratio: float
    bound: float | None
    at_least: bool = True

    @property
    def holds(self) -> bool:
        """Whether the ratio keeps to its bound."""
        if self.bound is None:
            return True
        return self.ratio >= self.bound if self.at_least else self.ratio <= self.bound


def main() -> int:
    """Measure, print the table; 1 when a bound is broken."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("part", nargs="?", choices=PARTS, help="one part alone; all without it")
    chosen = parser.parse_args().part
    rows: list[Row] = []
    for name, part in PARTS.items():
        if chosen in (None, name):
            with tempfile.TemporaryDirectory(prefix="outrider-transport-") as folder:
                rows += part(Path(folder))
    show(rows)
    return 0 if all(row.holds for row in rows) else 1


def show(rows: list[Row]) -> None:
    """A table in Markdown."""
    print("\n| what | ours | beside | ratio | bound |  |")
    print("|---|---|---|---|---|---|")
    for row in rows:
        sign = ">=" if row.at_least else "<="
        verdict = "" if row.bound is None else "holds" if row.holds else "BROKEN"
        bound = "" if row.bound is None else f"{sign} {row.bound:g}"
        print(f"| {row.what} | {row.ours} | {row.beside} | {row.ratio:.3g} | {bound} | {verdict} |")


def measure_goodput(folder: Path) -> list[Row]:
    """One device beside mosquitto_sub, ten beside ten bare paho clients."""
    with running(folder) as scene:
        artifact = published(scene)
        size = artifact.file.length / 1e6
        one = goodput.alternately(scene, artifact, ("device", "mosquitto_sub"), 1, SHORT_ROUNDS)
        ten = goodput.alternately(scene, artifact, ("device", "paho"), 10, ROUNDS)
    return [
        Row(
            f"goodput of {size:.0f} MB to one device",
            f"{size / one['device']:.0f} MB/s",
            f"mosquitto_sub {size / one['mosquitto_sub']:.0f} MB/s",
            one["mosquitto_sub"] / one["device"],
            0.6,
            at_least=True,
        ),
        Row(
            "goodput to 10 devices at once, in all",
            f"{10 * size / ten['device']:.0f} MB/s",
            f"10 bare paho subscribers {10 * size / ten['paho']:.0f} MB/s",
            ten["paho"] / ten["device"],
            0.8,
            at_least=True,
        ),
    ]


def measure_crowd(folder: Path) -> list[Row]:
    """What many devices cost the hub and the broker."""
    with running(folder) as scene:
        artifact = published(scene)
        blobs = [BlobRef(c.digest, c.length) for c in chunk_list(read_model(scene))[1]]
        cost = crowd.hub_cost(scene, artifact, 100)
        memory = crowd.broker_memory(scene, blobs, 1_000, seconds=SLOW_S)
    return [
        Row(
            "the hub's CPU for the artifact's bytes to 100 devices",
            f"{cost.many_s:.2f} s",
            f"to one device {cost.one_s:.2f} s",
            cost.many_s / cost.one_s,
            1.2,
            at_least=False,
        ),
        Row(
            f"broker memory with 1,000 subscribers on links of {crowd.LINK_BYTES_S:,} bytes/s"
            f" ({memory.bytes_read / 1_000 / SLOW_S:,.0f} read)",
            f"{memory.peak / crowd.MIB:.0f} MiB ({memory.connected / crowd.MIB:.0f} idle)",
            f"idle with the same blobs {memory.idle / crowd.MIB:.0f} MiB",
            memory.peak / memory.idle,
            2.0,
            at_least=False,
        ),
    ]


def measure_delta(folder: Path) -> list[Row]:
    """An update in bytes: what changed alone, and after a cut."""
    with running(folder) as scene:
        first, second, samples = write_models(folder)
        bundles = [
            converted(scene, model, samples, str(n + 1))
            for n, model in enumerate((first, second, second))
        ]
        digests = [scene.publish(bundle) for bundle in bundles]
        device = Receiver(scene, "delta-1")
        whole = device.fetch("1", digests[0])
        retrained = device.fetch("2", digests[1])
        same = device.fetch("3", digests[2])
        device.close()
        cut = Receiver(scene, "delta-2")
        half = int(whole.chunks_fetched) // 2
        cut.on_chunk = lambda chunks: cut.cut() if chunks == half else None
        cut.fetch("1", digests[0])
        twice = sum(times - 1 for topic, times in cut.wire.times.items() if "/blob/" in topic)
        cut.close()
    return [
        _share("last layer retrained: bytes fetched, all counted", retrained, 0.15),
        Row(
            "nothing changed but the version: chunks fetched",
            f"{same.chunks_fetched:.0f} ({same.bytes_fetched:.0f} bytes of manifest and lists)",
            f"whole artifact {whole.chunks_fetched:.0f}",
            same.chunks_fetched,
            0,
            at_least=False,
        ),
        Row(
            f"link cut after {half} chunks: chunks that came twice",
            f"{twice}",
            f"starting again {half}",
            twice,
            1,
            at_least=False,
        ),
    ]


def measure_metadata(folder: Path) -> list[Row]:
    """Signed metadata in bytes, with 1,000 releases in 10 families."""
    with running(folder, metadata.release_much) as scene:
        device = Receiver(scene, "meta-1")
        target = f"{FAMILY}/1.{metadata.RELEASES}"
        cold, index = metadata.refreshed(device, target)
        warm, _ = metadata.refreshed(device, target)
        device.close()
        with scene.hub.at_rest() as services:
            every = sum(len(data) for data in services.repository.files().values())
    return [
        Row(
            f"unchanged refresh, bytes (and {index} of tuf/index)",
            f"{warm}",
            f"all metadata {every}",
            warm,
            600,
            at_least=False,
        ),
        Row(
            "cold refresh, 1,000 releases in 10 families, bytes",
            f"{cold}",
            f"all metadata {every}",
            cold,
            60_000,
            at_least=False,
        ),
    ]


def measure_https(folder: Path) -> list[Row]:
    """The same artifact over HTTPS, from the hub and from its bucket, beside curl."""
    with (
        s3_server(folder / "s3") as store,
        running(folder, lambda directory: https.use_bucket(directory, store)) as scene,
    ):
        artifact = published(scene)
        key = https.enrol(scene)
        https.wait_for_bucket(scene, key, chunk_list(read_model(scene))[1][0].digest)
        address, size = https.address_of_all(scene, store)
        with https.file_server(scene, store.packs()[0]) as url:
            found = https.alternately(
                ROUNDS,
                hub=lambda: https.device_s(scene, artifact, key, None),
                hub_curl=lambda: https.curl_s(url, scene.ca, size),
                bucket=lambda: https.device_s(scene, artifact, key, store),
                bucket_curl=lambda: https.curl_s(address, store.ca_file, size),
            )
    megabytes = artifact.file.length / 1e6
    return [
        Row(
            f"HTTPS goodput of {megabytes:.0f} MB {what}",
            f"{megabytes / found[side]:.0f} MB/s",
            f"curl, one request {megabytes / found[f'{side}_curl']:.0f} MB/s",
            found[f"{side}_curl"] / found[side],
            None,
        )
        for side, what in (("hub", "from the hub"), ("bucket", "from a bucket"))
    ]


def _share(what: str, tally: Tally, bound: float) -> Row:
    return Row(
        what,
        f"{tally.bytes_fetched / 1e3:.0f} kB",
        f"artifact {tally.bytes_full / 1e3:.0f} kB",
        tally.bytes_fetched / tally.bytes_full,
        bound,
        at_least=False,
    )


def published(scene: Scene) -> goodput.Artifact:
    """A release with an artifact of `ARTIFACT_BYTES`, all of it at the broker."""
    bundle = write_release(scene.directory / "large", "digits", "1", weights(ARTIFACT_BYTES))
    sign_bundle(bundle, scene.directory / "keys", PASSPHRASE, now_ms=system_clock())
    scene.publish(bundle)
    packed, _ = chunk_list(read_model(scene))
    chunks = scene.directory / "chunk-list"
    chunks.write_bytes(packed)
    with open_bundle(bundle) as opened:
        file = opened.manifest.variants[0].model
    return goodput.Artifact(file, chunks, scene.wait_published())


def read_model(scene: Scene) -> bytes:
    """The artifact's bytes."""
    with open_bundle(scene.directory / "large") as opened:
        return opened.read(opened.manifest.variants[0].model)


PARTS: dict[str, Callable[[Path], list[Row]]] = {
    "goodput": measure_goodput,
    "crowd": measure_crowd,
    "delta": measure_delta,
    "metadata": measure_metadata,
    "https": measure_https,
}

if __name__ == "__main__":
    sys.exit(main())
