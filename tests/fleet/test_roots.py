"""The running hub and `policy/ca`: devices are told of other roots, and never to leave this hub."""

from __future__ import annotations

from pathlib import Path

import pytest

from converter.trust.custody import replace_roots
from fleet.assembly import run_hub, system_clock
from fleet.ca import Authority as HubAuthority
from fleet.trust.errors import TrustRefused
from model.archive import open_bundle
from tests.fleet.harness import HubDirectory
from tests.mosquitto import Authority
from tests.trust.ceremony import PASSPHRASE


@pytest.fixture
def new(tmp_path: Path) -> Authority:
    return Authority(tmp_path / "new", "new root")


def trust(hub_directory: HubDirectory, *roots: str) -> bytes:
    """trust.json that names these."""
    keys = hub_directory.path / "keys"
    named = [root.encode() for root in roots]
    replace_roots(keys, named, lambda: PASSPHRASE, system_clock())
    return (keys / "trust.json").read_bytes()


def own_root(hub_directory: HubDirectory) -> str:
    return HubAuthority(hub_directory.hub / "ca").root_pem()


def test_the_hub_publishes_another_root_beside_its_own(
    hub_directory: HubDirectory, new: Authority
) -> None:
    offered = trust(hub_directory, own_root(hub_directory), new.pem)

    with run_hub(hub_directory.hub, external_broker=True) as running:
        versions = running.services.repository.import_trust(offered)

    assert versions["targets"] == 2


def test_the_hub_publishes_no_roots_without_its_own(
    hub_directory: HubDirectory, new: Authority
) -> None:
    offered = trust(hub_directory, new.pem)

    with run_hub(hub_directory.hub, external_broker=True) as running:
        repository = running.services.repository
        with pytest.raises(TrustRefused, match=r"root\.crt"):
            repository.import_trust(offered)
        assert repository.versions()["targets"] == 1


def test_a_bundle_cannot_bring_such_roots_either(
    hub_directory: HubDirectory, new: Authority
) -> None:
    """A bundle carries targets.json too."""
    trust(hub_directory, new.pem)
    path = hub_directory.signed("digits", "1")

    with hub_directory.at_rest() as hub, open_bundle(path) as bundle:
        with pytest.raises(TrustRefused, match="root of this hub"):
            hub.repository.accept(bundle.trust(), bundle.manifest_bytes)
        assert hub.repository.versions()["targets"] == 1
