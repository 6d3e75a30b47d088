"""Trust and releases over HTTP: streamed, checked whole, nothing left behind."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from fleet.api import create_app, uploads
from fleet.ports import HubServices
from tests.fleet.harness import HubDirectory
from tests.trust.ceremony import write_release


def pieces(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while piece := file.read(10_000):
            yield piece


def leftovers(hub: HubServices) -> list[Path]:
    return list((hub.directory / "uploads").rglob("*"))


def test_a_streamed_bundle_is_published_once(
    api: TestClient, hub: HubServices, hub_directory: HubDirectory
) -> None:
    path = hub_directory.signed("digits", "1", b"w" * 3_000_000)
    first = api.post("releases", content=pieces(path))
    assert first.status_code == 201
    found = first.json()
    assert (found["target"], found["created"], found["counter"]) == ("digits/1", True, 1)
    assert found["bundle_bytes"] == path.stat().st_size
    assert found["gate"]["passed"] is True
    assert found["variants"][0]["name"] == "onnx-int8"

    again = api.post("releases", content=path.read_bytes())
    assert (again.status_code, again.json()["created"]) == (200, False)
    assert leftovers(hub) == []


def test_releases_are_listed_in_pages_oldest_first(
    api: TestClient, hub_directory: HubDirectory
) -> None:
    for version in ("1", "2", "3"):
        api.post("releases", content=hub_directory.signed("digits", version).read_bytes())
    first = api.get("releases", params={"limit": 2}).json()
    assert [item["version"] for item in first["items"]] == ["1", "2"]
    rest = api.get("releases", params={"limit": 2, "after": first["next"]}).json()
    assert ([item["version"] for item in rest["items"]], rest["next"]) == (["3"], None)
    assert api.get("releases", params={"family": "words"}).json()["items"] == []
    assert api.get("releases/digits/2").json()["target"] == "digits/2"
    assert api.get("releases/digits/9").status_code == 404


def test_an_unsigned_or_broken_bundle_is_refused_and_leaves_nothing(
    api: TestClient, hub: HubServices, tmp_path: Path
) -> None:
    unsigned = write_release(tmp_path / "digits-1.bundle", "digits", "1")
    for data in (unsigned.read_bytes(), b"PK\x03\x04 and then nothing", b"{}"):
        answer = api.post("releases", content=data)
        assert answer.status_code == 422
        assert answer.json()["error"]["code"] == "bundle-refused"
        assert str(hub.directory) not in answer.text
    assert api.get("releases").json()["items"] == []
    assert leftovers(hub) == []


def test_of_two_workstations_that_sign_at_once_the_second_is_told_of_the_conflict(
    api: TestClient, hub_directory: HubDirectory
) -> None:
    keys, other = hub_directory.path / "keys", hub_directory.path / "other"
    shutil.copytree(keys, other)
    late = hub_directory.signed("digits", "2")
    shutil.rmtree(keys)
    other.rename(keys)
    first = hub_directory.signed("digits", "1")
    assert api.post("releases", content=first.read_bytes()).status_code == 201
    answer = api.post("releases", content=late.read_bytes())
    assert (answer.status_code, answer.json()["error"]["code"]) == (409, "version-conflict")
    audited = api.get("audit").json()["items"][-1]
    assert (audited["action"], audited["detail"]) == (
        "release.publish",
        {"refused": "version-conflict"},
    )


def test_an_empty_upload_is_refused(api: TestClient) -> None:
    for path in ("releases", "trust"):
        answer = api.post(path, content=b"")
        assert (answer.status_code, answer.json()["error"]["code"]) == (400, "malformed")


def test_an_upload_above_its_limit_is_refused(
    api: TestClient,
) -> None:
    answer = api.post("trust", content=(b" " * (1 << 20) for _ in range(25)))
    assert (answer.status_code, answer.json()["error"]["code"]) == (413, "too-large")


def test_an_upload_never_takes_the_last_of_the_disk(
    api: TestClient, hub: HubServices, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(uploads, "SPARE_BYTES", 1 << 60)
    answer = api.post("releases", content=b"PK")
    assert (answer.status_code, answer.json()["error"]["code"]) == (507, "disk-full")
    assert leftovers(hub) == []


def test_what_a_killed_hub_left_half_uploaded_is_removed(hub: HubServices) -> None:
    half = hub.directory / "uploads" / "tmp1" / "bundle"
    half.parent.mkdir(parents=True)
    half.write_bytes(b"half")
    create_app(hub)
    assert leftovers(hub) == []


def test_trust_is_imported_again_without_change_and_its_files_can_be_read(
    api: TestClient, hub_directory: HubDirectory
) -> None:
    data = (hub_directory.path / "keys" / "trust.json").read_bytes()
    answer = api.post("trust", content=data)
    assert answer.status_code == 200
    found = answer.json()
    assert {"root", "targets", "digits"} <= set(found["versions"])
    assert "1.root.json" in found["files"]
    root = api.get("trust/1.root.json")
    assert root.json()["signed"]["_type"] == "root"
    assert api.get("trust/digits.json").json()["signed"]["_type"] == "targets"


@pytest.mark.parametrize("name", ["9.root.json", "..%2Fhub.json", "hub.sqlite", "A.json"])
def test_no_other_file_can_be_read(api: TestClient, name: str) -> None:
    assert api.get(f"trust/{name}").status_code == 404


def test_trust_of_a_stranger_is_refused(api: TestClient) -> None:
    answer = api.post("trust", content=b'{"files": {"1.root.json": "e30="}}')
    assert answer.status_code == 422
    assert answer.json()["error"]["code"] in ("trust-refused", "malformed-trust")
