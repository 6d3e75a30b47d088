"""`GET /authority`, and what the status says of a rotation."""

from __future__ import annotations

from fastapi.testclient import TestClient

from fleet.ca import Authority
from fleet.ports import HubServices
from tests.fleet.authorities import make
from tests.fleet.harness import HubDirectory, enrolled


def test_an_operator_is_told_every_root_that_is_believed(
    api: TestClient, hub: HubServices, hub_directory: HubDirectory
) -> None:
    before = api.get("authority").json()
    assert (before["stage"], len(before["roots"])) == (None, 1)
    make(hub_directory)
    found = api.get("authority").json()
    assert found["ca_pem"] == Authority(hub.directory / "ca").roots_pem() != before["ca_pem"]
    assert (found["stage"], len(found["roots"])) == ("made", 2)


def test_strangers_are_told_nothing(anybody: TestClient) -> None:
    assert anybody.get("authority").status_code == 401


def test_an_enrolment_file_on_the_way_carries_both_roots(
    api: TestClient, hub: HubServices, hub_directory: HubDirectory
) -> None:
    make(hub_directory)
    file = api.post("devices", json={"name": "cam-1", "device_class": "generic"}).json()
    assert file["ca_pem"] == Authority(hub.directory / "ca").roots_pem()
    assert file["ca_pem"].count("BEGIN CERTIFICATE") == 2


def test_the_status_says_where_the_rotation_stands(
    api: TestClient, hub: HubServices, hub_directory: HubDirectory
) -> None:
    enrolled(hub, "cam-1")
    assert api.get("status").json()["ca"]["stage"] is None
    make(hub_directory)
    found = api.get("status").json()
    assert found["ca"] | {"began_ms": 0, "roots": [], "ends_ms": 0} == {
        "stage": "made",
        "began_ms": 0,
        "roots": [],
        "next": "`outrider hub new-ca DIR --switch`",
        "unaware": 1,
        "on_old": 1,
        "believed": True,
        "former_believed": False,
        "former_named": False,
        "ends_ms": 0,
    }
    assert any("under way (made). Next: `outrider hub new-ca" in line for line in found["problems"])
