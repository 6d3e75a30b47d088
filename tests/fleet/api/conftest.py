"""The API over a hub at rest, asked in process through the real application."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from fastapi.testclient import TestClient

from fleet.api import create_app
from fleet.ports import HubServices
from tests.fleet.harness import HubDirectory

BASE = "https://hub.test/api/v1/"


@pytest.fixture
def anybody(hub: HubServices) -> Iterator[TestClient]:
    """A client without a token."""
    with TestClient(create_app(hub), BASE, raise_server_exceptions=False) as client:
        yield client


@pytest.fixture
def api(anybody: TestClient, hub_directory: HubDirectory) -> TestClient:
    """A client with the token that `hub init` printed."""
    anybody.headers["Authorization"] = f"Bearer {hub_directory.token}"
    return anybody
