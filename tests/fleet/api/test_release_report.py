"""A release's page over HTTP: as the bundle holds it, and unable to do anything."""

from __future__ import annotations

from pathlib import Path

import msgspec
from fastapi.testclient import TestClient

from converter.trust.signing import sign_bundle
from fleet.assembly import system_clock
from fleet.ports import HubServices
from model.archive import open_bundle, write_bundle
from model.chunks import file_ref
from tests.fleet.harness import HubDirectory
from tests.trust.ceremony import PASSPHRASE, write_release

PAGE = b"<!doctype html><title>digits:1</title><script>alert(1)</script>"


def with_page(made: HubDirectory, page: bytes = PAGE) -> Path:
    """A signed bundle of digits:1 that holds this page."""
    path = write_release(made.path / "digits-1.bundle", "digits", "1")
    with open_bundle(path) as bundle:
        files = {ref.path: bundle.read(ref) for ref in bundle.manifest.device_files}
        ref = file_ref("report.html", page, chunked=False)
        manifest = msgspec.structs.replace(bundle.manifest, hub_files=[ref])
    write_bundle(path, manifest, {**files, "report.html": page})
    sign_bundle(path, made.path / "keys", PASSPHRASE, now_ms=system_clock())
    return path


def test_the_page_is_served_as_it_is_and_may_run_nothing(
    api: TestClient, hub_directory: HubDirectory
) -> None:
    assert api.post("releases", content=with_page(hub_directory).read_bytes()).status_code == 201
    found = api.get("releases/digits/1/report")
    assert (found.status_code, found.content) == (200, PAGE)
    assert found.headers["content-type"] == "text/html; charset=utf-8"
    policy = found.headers["content-security-policy"]
    assert policy.startswith("sandbox; default-src 'none';")
    assert "script" not in policy
    assert "allow-" not in policy
    assert found.headers["x-content-type-options"] == "nosniff"


def test_a_release_without_a_page_and_one_that_is_not_there(
    api: TestClient, hub_directory: HubDirectory
) -> None:
    api.post("releases", content=hub_directory.signed("digits", "1").read_bytes())
    found = api.get("releases/digits/1/report")
    assert found.status_code == 404
    assert "has no report.html" in found.json()["error"]["message"]
    assert api.get("releases/digits/9/report").status_code == 404


def test_the_page_needs_a_token(api: TestClient, hub_directory: HubDirectory) -> None:
    api.post("releases", content=with_page(hub_directory).read_bytes())
    assert api.get("releases/digits/1/report", headers={"Authorization": ""}).status_code == 401


def test_a_bundle_that_was_altered_or_lost_at_the_hub_gives_no_page(
    api: TestClient, hub: HubServices, hub_directory: HubDirectory
) -> None:
    api.post("releases", content=with_page(hub_directory).read_bytes())
    kept = hub.directory / "bundles" / "digits_1.bundle"
    data = kept.read_bytes()
    kept.write_bytes(data.replace(b"alert(1)", b"alert(2)"))
    assert api.get("releases/digits/1/report").status_code == 404
    kept.unlink()
    assert api.get("releases/digits/1/report").status_code == 404
