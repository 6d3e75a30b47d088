"""`outrider hub bucket`, against a real S3 server."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from fleet.config import read_config
from fleet.setup import init_hub
from outrider.__main__ import main
from tests.s3 import BUCKET, KEYS, S3Server, s3_server


@pytest.fixture
def store(tmp_path: Path) -> Iterator[S3Server]:
    with s3_server(tmp_path / "s3") as server:
        yield server


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID", raising=False)
    monkeypatch.setenv("COLUMNS", "200")
    return init_hub(tmp_path / "hub", ["localhost"], 0, 0, bind="127.0.0.1").directory


def call(hub: Path, store: S3Server, *more: str) -> int:
    where = ["--endpoint", store.url, "--name", BUCKET, "--ca", str(store.ca_file)]
    return main(["hub", "bucket", str(hub), *where, *more])


def keys_file(folder: Path) -> str:
    path = folder / "s3.json"
    names = {"access_key_id": KEYS.access_key_id, "secret_access_key": KEYS.secret_access_key}
    path.write_text(json.dumps(names))
    path.chmod(0o600)
    return str(path)


def test_a_bucket_that_works_is_written_down_and_taken_away(
    hub: Path, store: S3Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(hub, store, "--credentials", keys_file(tmp_path), "--above", "20MB") == 0
    shown = capsys.readouterr()
    assert f"releases above 20 MB go to {BUCKET}" in shown.out
    assert KEYS.secret_access_key not in shown.out + shown.err
    chosen = read_config(hub).bucket
    assert chosen is not None
    assert (chosen.above_bytes, chosen.bucket) == (20_000_000, BUCKET)
    assert chosen.credentials_file == str(tmp_path / "s3.json")

    assert main(["hub", "bucket", str(hub), "--off"]) == 0
    assert read_config(hub).bucket is None


def test_the_environments_keys_will_do(
    hub: Path,
    store: S3Server,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", KEYS.access_key_id)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", KEYS.secret_access_key)
    assert call(hub, store, "--json") == 0
    assert json.loads(capsys.readouterr().out)["above_bytes"] == 64 << 20


def test_what_cannot_be_used_is_said_and_changes_nothing(
    hub: Path, store: S3Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for more, said in (
        (["--above", "much"], "--above: 'much' is not an amount of data"),
        (["--prefix", "no-slash"], "these settings cannot be used"),
        ([], "no keys for the bucket"),
        (["--credentials", keys_file(tmp_path), "--name", "absent"], "NoSuchBucket"),
    ):
        assert call(hub, store, *more) == 1
        assert said in capsys.readouterr().err
    assert main(["hub", "bucket", str(hub)]) == 1
    assert "--endpoint URL --name BUCKET" in capsys.readouterr().err
    assert read_config(hub).bucket is None
