"""The executable against a real repository over HTTP, as the tuf-conformance suite calls it."""

from __future__ import annotations

import http.server
import json
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from tuf.api.metadata import MetaFile

from contract.ids import digest_of
from model.archive import open_bundle
from tests.agent.daemon import now_ms
from tests.agent.trust.offers import import_root, resign, rotate_online_keys
from tests.trust.ceremony import DAY_MS, World
from tests.trust.forgery import bump, forge, offline, stolen_online, stranger

CLIENT = Path(__file__).parent / "tuf_client"


@dataclass
class Site:
    """A repository behind HTTP; a test may replace what is under a path."""

    world: World
    replaced: dict[str, bytes | None] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    targets: dict[str, bytes] = field(default_factory=dict)

    def content(self, path: str) -> bytes | None:
        self.asked.append(path)
        if path in self.replaced:
            return self.replaced[path]
        if path.startswith("/targets/"):
            return self.targets.get(path)
        return self.world.repository.files().get(path.removeprefix("/metadata/"))

    def publish(self, version: str) -> bytes:
        """A release; its manifest is the target."""
        path, _ = self.world.signed("digits", version)
        self.world.accept(path)
        with open_bundle(path) as bundle:
            data = bundle.manifest_bytes
        self.targets[f"/targets/digits/{digest_of(data)}.{version}"] = data
        return data


@dataclass
class Client:
    """One client's folders."""

    directory: Path
    url: str

    def run(self, *command: str) -> int:
        arguments = [
            sys.executable,
            str(CLIENT),
            "--metadata-dir",
            str(self.directory / "metadata"),
        ]
        done = subprocess.run([*arguments, *command], capture_output=True, text=True, check=False)
        self.said = done.stderr
        return done.returncode

    def refresh(self) -> int:
        return self.run("--metadata-url", f"{self.url}/metadata", "refresh")

    def download(self, *names: str) -> int:
        options = [word for name in names for word in ("--target-name", name)]
        to = ["--target-dir", str(self.directory / "targets")]
        base = ["--target-base-url", f"{self.url}/targets"]
        return self.run("--metadata-url", f"{self.url}/metadata", *options, *base, *to, "download")

    def version(self, role: str) -> int:
        data = json.loads((self.directory / "metadata" / f"{role}.json").read_bytes())
        return int(data["signed"]["version"])

    def downloaded(self) -> list[bytes]:
        return [path.read_bytes() for path in (self.directory / "targets").iterdir()]


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    world = World(tmp_path_factory.mktemp("repository"), now_ms())
    world.repository.create_online_keys()
    world.init_keys("digits")
    world.import_trust()
    return world.directory


@pytest.fixture
def site(template: Path, tmp_path: Path) -> Site:
    shutil.copytree(template, tmp_path / "world")
    return Site(World(tmp_path / "world", now_ms()))


@pytest.fixture
def client(site: Site, tmp_path: Path) -> Iterator[Client]:
    """A client that was initialised with root version 1."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            data = site.content(self.path)
            self.send_response(404 if data is None else 200)
            self.end_headers()
            self.wfile.write(data or b"")

        def log_message(self, *_: object) -> None:
            """Nothing on the terminal."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    client = Client(tmp_path, f"http://127.0.0.1:{server.server_port}")
    (tmp_path / "targets").mkdir()
    root = tmp_path / "root.json"
    root.write_bytes(site.world.repository.files()["1.root.json"])
    assert client.run("init", str(root)) == 0
    assert site.asked == []
    yield client
    server.shutdown()
    thread.join()
    server.server_close()


def newest(site: Site, role: str) -> bytes:
    data = site.world.repository.file(f"{role}.json")
    assert data is not None
    return data


def replace(site: Site, role: str, number: int, change: Callable[[Any], object], key: str) -> None:
    """A version that an online key signs."""
    name = "timestamp.json" if role == "timestamp" else f"{number}.{role}.json"
    signer = stolen_online(site.world, key)
    site.replaced[f"/metadata/{name}"] = forge(newest(site, role), change, [signer])


@pytest.mark.parametrize("garbage", [b"", b"GARBAGE", b"{}", b"\xff\xfe"])
def test_what_is_no_root_initialises_nothing(tmp_path: Path, garbage: bytes) -> None:
    root = tmp_path / "garbage.json"
    root.write_bytes(garbage)
    client = Client(tmp_path, "http://127.0.0.1:9")
    assert client.run("init", str(root)) == 1
    assert client.said.count("\n") == 1
    assert not list(tmp_path.glob("metadata/*"))


def test_a_root_that_too_few_keys_signed_or_that_is_none_is_refused(
    site: Site, tmp_path: Path
) -> None:
    files = site.world.repository.files()
    unsigned = json.loads(files["1.root.json"])
    del unsigned["signatures"][:2]
    client = Client(tmp_path / "other", "http://127.0.0.1:9")
    for content in (json.dumps(unsigned).encode(), files["1.targets.json"]):
        (tmp_path / "offered.json").write_bytes(content)
        assert client.run("init", str(tmp_path / "offered.json")) == 1
    assert client.run("init", str(tmp_path / "absent.json")) == 1


@pytest.mark.parametrize("command", ["refresh", "download"])
def test_without_a_metadata_url_it_is_wrong_usage(tmp_path: Path, command: str) -> None:
    client = Client(tmp_path, "")
    assert client.run(command) == 2
    assert "--metadata-url" in client.said


def test_a_refresh_asks_in_order_and_keeps_unversioned_names(site: Site, client: Client) -> None:
    assert client.refresh() == 0
    names = [path.removeprefix("/metadata/") for path in site.asked]
    assert names == ["2.root.json", "timestamp.json", "1.snapshot.json", "1.targets.json"]
    for role in ("root", "timestamp", "snapshot", "targets"):
        assert client.version(role) == 1


def test_what_has_not_changed_is_not_asked_for_again(site: Site, client: Client) -> None:
    assert client.refresh() == 0
    site.asked.clear()
    assert client.refresh() == 0
    assert site.asked == ["/metadata/2.root.json", "/metadata/timestamp.json"]


def test_an_absent_target_fails_and_metadata_is_refreshed_all_the_same(
    site: Site, client: Client
) -> None:
    assert client.download("digits/9") == 1
    assert client.said.startswith("untrusted: ")
    assert client.version("targets") == 1


def test_targets_are_downloaded_once_and_updated(site: Site, client: Client) -> None:
    one, two = site.publish("1"), site.publish("2")
    assert client.download("digits/1", "digits/2") == 0
    assert sorted(client.downloaded()) == sorted([one, two])
    site.asked.clear()
    assert client.download("digits/1") == 0
    assert not [path for path in site.asked if path.startswith("/targets/")]


@pytest.mark.parametrize("bad", [b"other", b"", b"x" * 1_000_000], ids=["wrong", "short", "long"])
def test_a_substituted_target_never_replaces_a_good_one(
    site: Site, client: Client, bad: bytes
) -> None:
    good = site.publish("1")
    assert client.download("digits/1") == 0
    site.publish("2")
    for path in site.targets:
        site.targets[path] = bad
    assert client.download("digits/2") == 1
    assert client.downloaded() == [good]


def test_roots_are_followed_one_by_one(site: Site, client: Client) -> None:
    assert client.refresh() == 0
    rotate_online_keys(site.world)
    site.world.now_ms = now_ms()
    site.replaced.clear()
    assert client.refresh() == 0
    assert client.version("root") == 2


def test_a_root_with_too_few_signatures_stops_everything(site: Site, client: Client) -> None:
    root = forge(newest(site, "root"), bump, offline(site.world, "root-1"))
    site.replaced["/metadata/2.root.json"] = root
    assert client.refresh() == 1
    assert client.said.startswith("untrusted: ")
    assert client.version("root") == 1


def test_a_root_that_skips_a_version_is_refused(site: Site, client: Client) -> None:
    keys = offline(site.world, "root-1", "root-2")
    root = forge(newest(site, "root"), lambda r: setattr(r, "version", 3), keys)
    site.replaced["/metadata/2.root.json"] = root
    assert client.refresh() == 1
    assert client.version("root") == 1


def test_an_initial_root_that_is_not_signed_asks_nobody(site: Site, client: Client) -> None:
    forged = forge(newest(site, "root"), lambda root: None, [stranger()])
    (client.directory / "root.json").write_bytes(forged)
    client.run("init", str(client.directory / "root.json"))
    assert client.refresh() == 1
    assert site.asked == []


def test_unknown_fields_are_signed_content(site: Site, client: Client) -> None:
    def add(root: Any) -> None:
        bump(root)
        root.unrecognized_fields["x"] = {"a": 1}

    import_root(site.world, add)
    assert client.refresh() == 0
    assert client.version("root") == 2


def test_an_older_timestamp_is_refused(site: Site, client: Client) -> None:
    old = newest(site, "timestamp")
    resign(site.world)
    assert client.refresh() == 0
    site.replaced["/metadata/timestamp.json"] = old
    assert client.refresh() == 1
    assert client.said.startswith("rollback: ")
    assert client.version("timestamp") == 2


def test_a_snapshot_that_lists_older_targets_is_refused(site: Site, client: Client) -> None:
    site.publish("1")
    assert client.download("digits/1") == 0
    number = client.version("snapshot")

    def older(snapshot: Any) -> None:
        bump(snapshot)
        snapshot.meta["digits.json"] = MetaFile(1)

    def naming(timestamp: Any) -> None:
        bump(timestamp)
        timestamp.snapshot_meta = MetaFile(number + 1)

    replace(site, "snapshot", number + 1, older, "snapshot")
    replace(site, "timestamp", 0, naming, "timestamp")
    assert client.refresh() == 1
    assert client.version("snapshot") == number


def test_the_same_version_with_other_content_is_not_kept(site: Site, client: Client) -> None:
    assert client.refresh() == 0
    replace(site, "timestamp", 0, lambda t: setattr(t, "snapshot_meta", MetaFile(100)), "timestamp")
    client.refresh()
    held = json.loads((client.directory / "metadata" / "timestamp.json").read_bytes())
    assert held["signed"]["meta"]["snapshot.json"]["version"] == 1


def test_metadata_with_another_hash_than_listed_is_refused(site: Site, client: Client) -> None:
    assert client.refresh() == 0
    site.publish("1")
    data = newest(site, "digits")
    site.replaced["/metadata/2.digits.json"] = data.replace(b"digits", b"digitz")
    assert client.download("digits/1") == 1
    assert client.said.startswith("tampered: ")
    assert client.downloaded() == []


def test_expired_metadata_is_refused(site: Site, client: Client) -> None:
    site.world.now_ms = now_ms() - 2 * DAY_MS
    for name in ("timestamp.json", "1.snapshot.json"):
        (site.world.repository.directory / name).unlink()
    site.world.repository.sign_online(site.world.now_ms)
    assert client.refresh() == 1
    assert client.said.startswith("stale: ")


def test_a_server_that_is_away_is_a_transport_failure(site: Site, client: Client) -> None:
    client.url = "http://127.0.0.1:1"
    assert client.refresh() == 1
    assert client.said.startswith("transport: ")
