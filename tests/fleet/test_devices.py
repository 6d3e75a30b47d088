"""Devices: what may be added, what an enrolment file holds, what removal takes away."""

from __future__ import annotations

from pathlib import Path

import pytest

from contract.enrolment import EnrolmentFile, decode_enrolment, encode_enrolment
from fleet.assignments import assign
from fleet.devices import add_device, find_device, list_devices, remove_device, replace_device
from fleet.errors import DeviceExists, DeviceNotFound, InvalidDevice, TrustMissing
from fleet.identities import Identities
from fleet.ports import HubServices
from fleet.setup import database_url, init_hub
from fleet.storage.database import open_storage
from fleet.storage.schema import AssignedFamily, Certificate, Device
from tests.fleet.harness import Device as Voice
from tests.fleet.harness import (
    SilentLink,
    answer,
    enrolled,
    enrolment_request,
    services,
    wanted,
)


def test_the_enrolment_file_holds_what_a_device_needs(hub: HubServices) -> None:
    file = add_device(hub, "cam-1", "camera", {"site": "lyon"})

    assert decode_enrolment(EnrolmentFile, encode_enrolment(file)) == file
    assert file.hub_url == f"https://localhost:{hub.config.api_port}"
    assert (file.broker_host, file.broker_port) == ("localhost", hub.config.broker_port)
    assert '"root"' in file.root_json
    assert "BEGIN CERTIFICATE" in file.ca_pem


def test_a_hub_without_trust_root_gives_out_no_files(tmp_path: Path) -> None:
    directory = tmp_path / "hub"
    init_hub(directory, ["localhost"], 0, 0)
    storage = open_storage(database_url(directory))
    try:
        with pytest.raises(TrustMissing, match="keys init"):
            add_device(services(directory, storage, lambda: 0), "cam-1", "generic", {})
    finally:
        storage.close()


@pytest.mark.parametrize("name", ["", "Cam", "hub", "hub-2", "a/b", "+", "#", "a" * 64, "-a"])
def test_names_that_cannot_stand_in_a_topic_are_refused(hub: HubServices, name: str) -> None:
    with pytest.raises(InvalidDevice):
        add_device(hub, name, "generic", {})


@pytest.mark.parametrize(
    "labels",
    [
        {"": "x"},
        {"Site": "x"},
        {"name": "x"},
        {"class": "x"},
        {"site": ""},
        {"site": "a,b"},
        {"site": "a*"},
        {"a=b": "x"},
        {f"l{n}": "x" for n in range(33)},
    ],
)
def test_labels_that_a_selector_cannot_name_are_refused(
    hub: HubServices, labels: dict[str, str]
) -> None:
    with pytest.raises(InvalidDevice):
        add_device(hub, "cam-1", "generic", labels)


def test_an_enrolled_device_is_not_added_twice(hub: HubServices) -> None:
    enrolled(hub, "cam-1")

    with pytest.raises(DeviceExists, match="--replace"):
        add_device(hub, "cam-1", "generic", {})


def test_a_device_that_never_enrolled_may_be_added_again_with_other_labels(
    hub: HubServices,
) -> None:
    first = add_device(hub, "cam-1", "generic", {})
    second = add_device(hub, "cam-1", "camera", {"site": "lyon"})

    assert first.secret != second.secret
    with hub.storage.reading() as session:
        found = find_device(session, "cam-1")
        assert (found.device_class, found.labels) == ("camera", {"site": "lyon"})


def test_removal_revokes_certificates_and_forgets_assignments(hub: HubServices) -> None:
    enrolled(hub, "cam-1")
    with hub.storage.session() as session:
        assign(session, "cam-1", "digits", wanted(), hub.clock())

    remove_device(hub, "cam-1")

    with hub.storage.reading() as session:
        assert session.get_one(Device, "cam-1").status == "revoked"
        assert all(row.revoked_at_ms for row in session.query(Certificate))
        assert session.query(AssignedFamily).count() == 0
        with pytest.raises(DeviceNotFound):
            find_device(session, "cam-1")
        assert list_devices(session) == []


def test_removal_wakes_the_link_so_that_topics_are_cleared(hub: HubServices) -> None:
    enrolled(hub, "cam-1")

    remove_device(hub, "cam-1")

    assert isinstance(hub.link, SilentLink)
    assert hub.link.woken == 1


def test_removing_a_device_that_is_not_there_names_it(hub: HubServices) -> None:
    with pytest.raises(DeviceNotFound, match="'cam-7'"):
        remove_device(hub, "cam-7")


def test_devices_are_listed_by_name(hub: HubServices) -> None:
    for name in ("b", "a"):
        add_device(hub, name, "generic", {})

    with hub.storage.reading() as session:
        assert [device.name for device in list_devices(session)] == ["a", "b"]


def test_a_device_that_comes_back_under_an_old_name_inherits_no_reports(hub: HubServices) -> None:
    enrolled(hub, "cam-1")
    with hub.storage.session() as session:
        row = session.get_one(Device, "cam-1")
        row.reported_seq, row.state_boot, row.state_mono_ms = 1 << 53, "a" * 32, 9
        row.families = {"digits": {"phase": "committed"}}
        row.assignment_seq = 7
    remove_device(hub, "cam-1")

    enrolled(hub, "cam-1")

    with hub.storage.session() as session:
        row = session.get_one(Device, "cam-1")
        assert (row.reported_seq, row.state_boot, row.families) == (0, None, {})
        assert assign(session, "cam-1", "digits", wanted(), hub.clock()) == 8


def test_a_replaced_device_keeps_its_history_and_loses_its_certificate(hub: HubServices) -> None:
    old = enrolled(hub, "cam-1", site="lyon")
    with hub.storage.session() as session:
        assign(session, "cam-1", "digits", wanted(), hub.clock())
        session.get_one(Device, "cam-1").reported_seq = 7

    file = replace_device(hub, "cam-1", None, None)
    new = Voice("cam-1")
    new.chain_pem = answer(hub, enrolment_request(file, new.key)).certificate_pem

    with hub.storage.reading() as session:
        device = find_device(session, "cam-1")
        assert (device.status, device.labels, device.reported_seq) == (
            "enrolled",
            {"site": "lyon"},
            0,
        )
        assert device.published_epoch is None, "the new machine is to be told what the old one was"
        assert device.takeover_since_ms is not None
        assert session.get(AssignedFamily, ("cam-1", "digits")) is not None
        certificates = session.query(Certificate).order_by(Certificate.revoked_at_ms).all()
        assert [row.revoked_at_ms is not None for row in certificates] == [False, True]
        assert device.assignment_seq == 1, "no number is given twice"
    assert old.chain_pem != new.chain_pem


def test_until_the_new_machine_enrols_the_old_one_is_not_heard(hub: HubServices) -> None:
    enrolled(hub, "cam-1")
    replace_device(hub, "cam-1", "pi-5", {"site": "paris"})
    with hub.storage.reading() as session:
        device = find_device(session, "cam-1")
        assert (device.status, device.device_class) == ("expected", "pi-5")
    identities = Identities(hub.storage)
    identities.refresh(["cam-1"])
    found = identities.find("cam-1")
    assert found is not None
    assert found.keys == {}


def test_only_a_known_device_is_replaced(hub: HubServices) -> None:
    with pytest.raises(DeviceNotFound):
        replace_device(hub, "cam-9", None, None)
    enrolled(hub, "cam-1")
    remove_device(hub, "cam-1")
    with pytest.raises(DeviceNotFound):
        replace_device(hub, "cam-1", None, None)


def test_an_enrolment_file_may_be_good_for_longer(hub: HubServices) -> None:
    file = add_device(hub, "cam-1", "generic", {}, 7 * 86_400_000)
    assert file.expires_at_ms - file.floor_ms == 7 * 86_400_000


def test_a_device_that_never_enrolled_has_no_session_to_end(hub: HubServices) -> None:
    add_device(hub, "cam-1", "generic", {})
    remove_device(hub, "cam-1")
    with hub.storage.reading() as session:
        assert session.get_one(Device, "cam-1").takeover_since_ms is None
