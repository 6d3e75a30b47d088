"""What the fleet says it has seen, and what a restored hub makes of it."""

from __future__ import annotations

from fleet.ports import HubServices
from fleet.seen_metadata import lost, read_seen, summarise
from fleet.storage.schema import Device
from fleet.trust.freshness import believable
from tests.fleet.harness import enrolled
from tests.trust.ceremony import START_MS

CEILING = 1_000


def test_the_highest_version_of_each_role_counts() -> None:
    seen = summarise({"a": {"timestamp": 3, "digits": 9}, "b": {"timestamp": 5}, "c": {}}, CEILING)

    assert seen.versions == {"timestamp": 5, "digits": 9}
    assert seen.beyond == []


def test_one_liar_does_not_hide_what_the_honest_have_seen() -> None:
    seen = summarise({"liar": {"snapshot": 1_001}, "b": {"snapshot": 5}}, CEILING)

    assert seen.versions == {"snapshot": 5}
    assert seen.beyond == ["liar"]


def test_what_offline_keys_signed_after_the_backup_is_lost() -> None:
    seen = {"timestamp": 90, "snapshot": 90, "targets": 4, "digits": 7, "of-old": 3}
    ours = {"root": 1, "timestamp": 20, "snapshot": 20, "targets": 4, "digits": 5}

    assert lost(seen, ours) == {"digits": 7}


def test_only_enrolled_devices_are_asked(hub: HubServices) -> None:
    for name in ("cam-1", "cam-2"):
        enrolled(hub, name)
    with hub.storage.session() as session:
        session.get_one(Device, "cam-1").tuf_versions = {"timestamp": 30}
        gone = session.get_one(Device, "cam-2")
        gone.tuf_versions = {"timestamp": 60}
        gone.status = "revoked"

    with hub.storage.reading() as session:
        assert read_seen(session, START_MS).versions == {"timestamp": 30}


def test_a_clock_at_1970_believes_nobody() -> None:
    assert summarise({"a": {"timestamp": 3}}, believable(0)).versions == {}
