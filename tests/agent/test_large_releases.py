"""A whole device takes a release that its broker does not hold: hub, broker, bucket and daemon are
real."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest
from sqlalchemy import select

from fleet.assembly import run_hub
from fleet.ports import HubServices
from fleet.storage.schema import StoredEvent
from tests.agent.daemon import Daemon, eventually
from tests.agent.link.test_https_blobs import WEIGHTS, assigned_device
from tests.fleet.conftest import hub_directory, hub_template
from tests.fleet.harness import HubDirectory, over_https, until
from tests.s3 import KEYS, s3_server

__all__ = ["hub_directory", "hub_template"]


def said(hub: HubServices) -> list[StoredEvent]:
    with hub.storage.reading() as session:
        return list(session.scalars(select(StoredEvent).order_by(StoredEvent.id)))


def test_a_daemon_fetches_over_https_what_is_kept_off_the_broker(
    hub_directory: HubDirectory, tmp_path: Path
) -> None:
    config = hub_directory.hub / "hub.json"
    settings: dict[str, Any] = msgspec.json.decode(config.read_bytes())
    config.write_bytes(msgspec.json.encode(settings | {"retain_at_most_bytes": 0}))
    with run_hub(hub_directory.hub) as running, over_https(running.services):
        until((hub_directory.hub / "run" / "epoch").exists)
        world = assigned_device(running.services, hub_directory, tmp_path)
        daemon = Daemon(tmp_path / "state", "--no-server", OUTRIDER_HTTPS_ABOVE_BYTES="0")
        try:
            eventually(lambda: any(event.cause for event in said(world.hub)), 60)
        finally:
            daemon.stop()
        *_, last = said(world.hub)
    # Its weights are random bytes, so the trial is as far as this release gets.
    assert (last.phase, last.cause) == ("failed", "trial-failed")
    assert last.figures["bytes_fetched"] > len(WEIGHTS)
    assert last.figures["chunks_fetched"] > 20


def test_a_daemon_fetches_from_the_bucket_what_nobody_else_holds(
    hub_directory: HubDirectory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", KEYS.access_key_id)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", KEYS.secret_access_key)
    config = hub_directory.hub / "hub.json"
    settings: dict[str, Any] = msgspec.json.decode(config.read_bytes())
    with s3_server(tmp_path / "s3") as store:
        settings["bucket"] = msgspec.to_builtins(store.config())
        config.write_bytes(msgspec.json.encode(settings | {"retain_at_most_bytes": 0}))
        with run_hub(hub_directory.hub) as running, over_https(running.services):
            until((hub_directory.hub / "run" / "epoch").exists)
            world = assigned_device(running.services, hub_directory, tmp_path)
            shelf = running.services.shelf
            assert shelf is not None
            until(lambda: shelf.held, 30)
            for ref in world.refs:
                world.hub.blobs.discard(ref.digest)
            more = {"OUTRIDER_HTTPS_ABOVE_BYTES": "0"}
            more["OUTRIDER_OBJECT_STORE_CA_FILE"] = str(store.ca_file)
            daemon = Daemon(tmp_path / "state", "--no-server", **more)
            try:
                eventually(lambda: any(event.cause for event in said(world.hub)), 60)
            finally:
                daemon.stop()
            *_, last = said(world.hub)
    # Every byte of the release came, was verified, installed and tried; its weights are random.
    assert {"verifying", "staged", "trial"} <= {event.phase for event in said(world.hub)}
    assert (last.phase, last.cause) == ("failed", "trial-failed")
    assert last.figures["bytes_fetched"] > len(WEIGHTS)
    assert last.figures["chunks_fetched"] > 20
