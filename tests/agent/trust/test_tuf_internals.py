"""The contract with the installed python-tuf: what we read of its private state is still there."""

from __future__ import annotations

from datetime import datetime, timezone
from importlib.metadata import version

import pytest
from tuf.api.exceptions import ExpiredMetadataError
from tuf.ngclient import Updater
from tuf.ngclient._internal.trusted_metadata_set import TrustedMetadataSet

from agent.trust.fetcher import BASE_URL, SourceFetcher
from agent.trust.tuf_internals import (
    set_reference_time,
    verified_roles,
    verified_root,
    verified_snapshot,
)
from contract.variants import version_key
from tests.trust.ceremony import DAY_MS, START_MS, Device, World


@pytest.fixture
def updater(world: World, device: Device) -> Updater:
    world.publish("digits", "1")
    return Updater(
        str(device.directory),
        BASE_URL,
        fetcher=SourceFetcher(device.source, device.source.index()),
        bootstrap=world.repository.files()["1.root.json"],
    )


def test_the_installed_tuf_is_one_that_this_was_written_for() -> None:
    assert (7, 0, 1) <= version_key(version("tuf")) < (8,)


def test_the_reference_time_is_what_expiry_is_judged_by(updater: Updater) -> None:
    trusted = updater._trusted_set
    assert isinstance(trusted, TrustedMetadataSet)
    assert isinstance(trusted.reference_time, datetime)

    set_reference_time(updater, START_MS + 2 * DAY_MS)

    assert trusted.reference_time == datetime.fromtimestamp(
        (START_MS + 2 * DAY_MS) / 1000, timezone.utc
    )
    with pytest.raises(ExpiredMetadataError, match="timestamp"):
        updater.refresh()


def test_metadata_is_good_until_the_second_before_it_expires(updater: Updater) -> None:
    set_reference_time(updater, START_MS + DAY_MS - 1)

    updater.refresh()


def test_metadata_has_expired_in_the_second_in_which_it_expires(updater: Updater) -> None:
    set_reference_time(updater, START_MS + DAY_MS)

    with pytest.raises(ExpiredMetadataError):
        updater.refresh()


def test_what_was_verified_can_be_read(updater: Updater) -> None:
    set_reference_time(updater, START_MS)
    assert verified_root(updater).version == 1

    updater.refresh()
    assert set(verified_roles(updater, ["digits"])) == {
        "root",
        "timestamp",
        "snapshot",
        "targets",
    }
    updater.get_targetinfo("digits/1")

    assert verified_roles(updater, ["digits"])["digits"].version == 2
    assert verified_snapshot(updater).meta["digits.json"].version == 2
