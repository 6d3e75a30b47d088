"""The bucket, against a real S3 server: put, listed, cleared, and read by an address alone."""

from __future__ import annotations

import logging
import ssl
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import msgspec
import pytest

from contract.blob_places import read_address
from fleet import bucket as bucket_module
from fleet.bucket import Bucket, find_keys, try_bucket
from fleet.config import BucketConfig, read_config
from fleet.errors import BucketFailed, BucketUnusable
from fleet.settings import BucketKeys
from fleet.setup import use_bucket
from tests.fleet.harness import HubDirectory, until
from tests.s3 import BUCKET, KEYS, S3Server, s3_server

NAME = "a" * 64 + ".pack"


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    with s3_server(tmp_path_factory.mktemp("s3")) as server:
        yield server


@pytest.fixture
def bucket(store: S3Server) -> Bucket:
    return Bucket(store.config(prefix="here/"), KEYS)


def read(store: S3Server, address: str) -> bytes:
    context = ssl.create_default_context(cafile=store.ca_file)
    with urllib.request.urlopen(address, context=context) as answer:  # noqa: S310 - of our server
        return bytes(answer.read())


def test_what_was_put_is_listed_read_by_its_address_and_cleared(
    store: S3Server, bucket: Bucket
) -> None:
    bucket.put(NAME, b"some bytes")
    assert bucket.sizes() == {NAME: 10}
    assert read(store, bucket.address(NAME)) == b"some bytes"
    bucket.delete(NAME)
    bucket.delete(NAME)
    assert bucket.sizes() == {}


def test_what_is_not_named_as_the_hub_names_it_is_neither_listed_nor_touched(
    store: S3Server, bucket: Bucket
) -> None:
    folder = store.objects / BUCKET / "here"
    folder.mkdir(exist_ok=True)
    (folder / "holiday.jpg").write_bytes(b"x")
    (store.objects / BUCKET / NAME).write_bytes(b"of another prefix")
    assert bucket.sizes() == {}
    for name in ("holiday.jpg", "../" + NAME, "sub/" + NAME):
        with pytest.raises(BucketFailed, match="is not a name of this hub's"):
            bucket.delete(name)
    (store.objects / BUCKET / NAME).unlink()
    (folder / "holiday.jpg").unlink()


def test_an_address_is_good_for_its_object_and_its_time_only(store: S3Server) -> None:
    bucket = Bucket(store.config(address_seconds=1), KEYS)
    bucket.put(NAME, b"some bytes")
    address = bucket.address(NAME)
    for changed in (address.replace("a" * 64, "b" * 64), address[:-1], address.split("?")[0]):
        with pytest.raises(urllib.error.HTTPError):
            read(store, changed)

    def expired() -> bool:
        try:
            return not read(store, address)
        except urllib.error.HTTPError:
            return True

    until(expired)
    bucket.delete(NAME)


def test_an_address_holds_no_secret_and_no_more_than_a_device_reads(bucket: Bucket) -> None:
    address = bucket.address(NAME)
    assert KEYS.secret_access_key not in address
    assert read_address(address).secure


def test_wrong_keys_an_absent_bucket_and_no_server_are_named(store: S3Server) -> None:
    with pytest.raises(BucketFailed, match="SignatureDoesNotMatch"):
        Bucket(store.config(), BucketKeys("AKIDEXAMPLE", "wrong")).sizes()
    with pytest.raises(BucketFailed, match="NoSuchBucket"):
        Bucket(msgspec.structs.replace(store.config(), bucket="absent"), KEYS).put(NAME, b"x")
    with pytest.raises(BucketFailed, match="certificate"):
        Bucket(store.config(ca_file=None), KEYS).sizes()


def test_keys_are_neither_shown_nor_logged(
    store: S3Server, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    secret = BucketKeys("AKID-HIDDEN", "wrong-and-secret", "token-and-secret")
    with pytest.raises(BucketFailed) as failed:
        Bucket(store.config(), secret).sizes()
    said = f"{secret!r} {failed.value} {failed.value.__cause__} {caplog.text}"
    assert "wrong-and-secret" not in said
    assert "token-and-secret" not in said
    assert "AKID-HIDDEN" not in repr(secret)


def key_file(folder: Path, content: bytes, mode: int = 0o600) -> BucketConfig:
    path = folder / "keys.json"
    path.write_bytes(content)
    path.chmod(mode)
    return BucketConfig(endpoint="https://s3", bucket=BUCKET, credentials_file=str(path))


def test_keys_come_from_the_environment_or_from_a_file_that_others_cannot_read(
    tmp_path: Path,
) -> None:
    good = b'{"access_key_id": "a", "secret_access_key": "b"}'
    assert find_keys(key_file(tmp_path, good), None) == BucketKeys("a", "b")
    assert find_keys(key_file(tmp_path, good), KEYS) is KEYS
    with pytest.raises(BucketUnusable, match="chmod 600"):
        find_keys(key_file(tmp_path, good, 0o640), None)
    with pytest.raises(BucketUnusable, match="AWS_ACCESS_KEY_ID"):
        find_keys(BucketConfig(endpoint="https://s3", bucket=BUCKET), None)
    with pytest.raises(BucketUnusable, match="cannot read"):
        find_keys(msgspec.structs.replace(key_file(tmp_path, good), credentials_file="/no"), None)


def test_a_broken_key_file_is_refused_without_a_word_of_it(tmp_path: Path) -> None:
    with pytest.raises(BucketUnusable) as refused:
        find_keys(key_file(tmp_path, b'{"access_key_id": "very-secret", "x": 1}'), None)
    assert "very-secret" not in str(refused.value)
    assert refused.value.__cause__ is None


def test_a_bucket_is_tried_before_the_hub_takes_it(
    store: S3Server, hub_directory: HubDirectory
) -> None:
    before = read_config(hub_directory.hub)
    for wrong in (
        store.config(prefix="../"),
        msgspec.structs.replace(store.config(), endpoint="ftp://x"),
    ):
        with pytest.raises(BucketUnusable, match="cannot be used"):
            use_bucket(hub_directory.hub, wrong, KEYS)
    with pytest.raises(BucketFailed):
        use_bucket(hub_directory.hub, store.config(), BucketKeys("a", "wrong"))
    assert read_config(hub_directory.hub) == before

    use_bucket(hub_directory.hub, store.config(), KEYS)
    assert read_config(hub_directory.hub).bucket == store.config()
    assert KEYS.secret_access_key not in (hub_directory.hub / "hub.json").read_text()
    assert store.packs() == []  # what was tried was cleared

    use_bucket(hub_directory.hub, None)
    assert read_config(hub_directory.hub) == before


def test_an_address_that_devices_cannot_use_is_found_out_at_once(store: S3Server) -> None:
    elsewhere = store.config(device_endpoint="https://127.0.0.1:9")
    with pytest.raises(BucketFailed, match=r"a signed address at 127\.0\.0\.1 cannot be read"):
        try_bucket(Bucket(elsewhere, KEYS))
    assert store.packs() == []


def test_a_long_listing_is_read_page_by_page_and_not_without_an_end(
    store: S3Server, bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bucket_module, "_PAGE", 2)
    names = {f"{n:064x}.pack" for n in range(5)}
    for name in names:
        bucket.put(name, b"x")
    assert set(bucket.sizes()) == names
    monkeypatch.setattr(bucket_module, "MAX_LISTED", 4)
    with pytest.raises(BucketFailed, match=r"more than 4 objects .* a prefix of its own"):
        bucket.sizes()
    for name in names:
        bucket.delete(name)


@contextmanager
def lying(status: int, body: bytes) -> Iterator[BucketConfig]:
    """A store that answers everything with this."""

    class Liar(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Says nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Liar)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield BucketConfig(endpoint=f"http://127.0.0.1:{server.server_port}", bucket=BUCKET)
    finally:
        server.shutdown()
        server.server_close()
        thread.join(5)


def test_what_a_store_says_cannot_forge_a_line_of_the_log() -> None:
    pytest.importorskip("botocore", reason="botocore is not installed")
    said = b"<Error><Code>No</Code><Message>no&#10;INFO all is well&#13;&#155;2J</Message></Error>"
    with lying(403, said) as config, pytest.raises(BucketFailed, match="all is well") as raised:
        Bucket(config, KEYS).sizes()
    assert str(raised.value).isprintable()


@pytest.mark.parametrize(
    "inside",
    [
        b"<IsTruncated>true</IsTruncated>",
        b"<Contents><Size>5</Size></Contents>",
        b"<Contents><Key>outrider/" + NAME.encode() + b"</Key></Contents>",
    ],
)
def test_a_listing_that_lacks_what_it_needs_is_a_failing_store(inside: bytes) -> None:
    pytest.importorskip("botocore", reason="botocore is not installed")
    page = b"<ListBucketResult>" + inside + b"</ListBucketResult>"
    with lying(200, page) as config, pytest.raises(BucketFailed, match="no listing"):
        Bucket(config, KEYS).sizes()


def test_a_hub_without_botocore_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "botocore.config", None)
    with pytest.raises(BucketUnusable, match=r"pip install 'outrider\[s3\]'"):
        Bucket(BucketConfig(endpoint="https://s3", bucket=BUCKET), KEYS)
