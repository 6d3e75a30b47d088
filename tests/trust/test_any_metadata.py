"""Any value at any place of metadata that its own keys have signed, before all three programs.

Whoever holds one key can sign what they like; what python-tuf passes on unchecked must end in a
refusal by its class, and never in another error.
"""

from __future__ import annotations

import base64
import copy
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from securesystemslib.formats import encode_canonical
from securesystemslib.signer import CryptoSigner

from agent.errors import DeviceError
from agent.trust.local import install_root
from contract.errors import ContractError
from converter.trust.ceremony import look_at_request
from converter.trust.errors import SigningError
from converter.trust.folder import read_trust
from fleet.errors import FleetError
from fleet.trust.verification import read_family, read_roots, read_targets
from tests.agent.trust.offers import offer
from tests.trust.ceremony import Device, World, new_world
from tests.trust.forgery import offline

ABSENT = object()
VALUES: tuple[Any, ...] = (
    *(ABSENT, None, -1, 1 << 70, 1.5, "", "\x00", "/../x", True, [], [1], ["x", "x"]),
    *({}, {"a": 1}, {"x": {"y": {}}}, "9999-12-31T23:59:59Z"),
)
KEYS = {"root": ("root-1", "root-2"), "targets": ("targets-1",), "digits": ("family-digits",)}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    world = new_world(tmp_path_factory.mktemp("world"), lambda: tmp_path_factory.mktemp("t"))
    world.publish("digits", "1")
    return world


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every place in a piece of JSON."""
    if path:
        yield path
    if isinstance(value, (dict, list)):
        for key in value if isinstance(value, dict) else range(len(value)):
            yield from places(value[key], (*path, key))


def changed(whole: dict[str, Any], path: tuple[Any, ...], value: Any) -> dict[str, Any]:
    found = copy.deepcopy(whole)
    at = found
    for key in path[:-1]:
        at = at[key]
    if value is ABSENT:
        del at[path[-1]]
    else:
        at[path[-1]] = value
    return found


def variants(signed: dict[str, Any], values: tuple[Any, ...]) -> Iterator[dict[str, Any]]:
    following = signed | {"version": signed["version"] + 1}
    for path in places(signed):
        for value in values:
            yield changed(following, path, value)


def sealed(signed: dict[str, Any], keys: list[CryptoSigner]) -> bytes | None:
    """None where the content has no canonical form, which nobody can sign."""
    try:
        content = encode_canonical(signed)
    except Exception:  # noqa: BLE001 - a test's own tool: what it cannot say is left out
        return None
    assert content is not None
    signatures = [
        {"keyid": key.public_key.keyid, "sig": key.sign(content.encode()).signature} for key in keys
    ]
    return json.dumps({"signed": signed, "signatures": signatures}).encode()


def newest(world: World, role: str) -> dict[str, Any]:
    data = world.repository.file(f"{role}.json")
    assert data is not None
    found = json.loads(data)["signed"]
    assert isinstance(found, dict)
    return found


def offered(world: World, role: str, values: tuple[Any, ...] = VALUES) -> list[bytes]:
    keys = offline(world, *KEYS[role])
    made = [sealed(signed, keys) for signed in variants(newest(world, role), values)]
    return [data for data in made if data is not None]


@pytest.mark.parametrize("role", list(KEYS))
def test_the_hub_refuses_it_by_name(world: World, role: str) -> None:
    files = world.repository.files()
    root = read_roots([files["1.root.json"]])
    targets = read_targets(root, "1.targets.json", files["1.targets.json"])
    version = newest(world, role)["version"] + 1
    readers: dict[str, Callable[[bytes], object]] = {
        "root": lambda data: read_roots([files["1.root.json"], data]),
        "targets": lambda data: read_targets(root, f"{version}.targets.json", data),
        "digits": lambda data: read_family(targets, "digits", f"{version}.digits.json", data),
    }
    refused = 0
    for data in offered(world, role):
        try:
            readers[role](data)
        except (FleetError, ContractError):
            refused += 1
    assert refused > 100


def test_the_anchor_of_an_enrolment_is_refused_by_name(world: World, tmp_path: Path) -> None:
    refused = 0
    for data in offered(world, "root"):
        try:
            install_root(tmp_path / "tuf", data)
        except DeviceError:
            refused += 1
    assert refused > 100


@pytest.mark.parametrize("role", ["targets", "digits"])
def test_a_device_refuses_it_by_class(world: World, tmp_path: Path, role: str) -> None:
    version = newest(world, role)["version"] + 1
    refused = 0
    for number, data in enumerate(offered(world, role, (-1, {"x": {"y": {}}}))):
        device = Device(world, tmp_path / str(number))
        offer(world, device, role, version, data)
        try:
            view = device.guard.refresh()
        except DeviceError:
            refused += 1
        else:
            refused += bool(view.refused)
    assert refused > 20


@pytest.mark.parametrize("role", list(KEYS))
def test_nobody_is_asked_to_sign_it(world: World, tmp_path: Path, role: str) -> None:
    """Drafts are not signed yet, so they may also be what cannot be."""
    base = read_trust(world.keys).files
    version = max(int(name.split(".")[0]) for name in base if name.endswith(f".{role}.json"))
    present = json.loads(base[f"{version}.{role}.json"])["signed"]
    encoded = {name: base64.b64encode(data).decode() for name, data in base.items()}
    path = tmp_path / "request.json"
    refused = 0
    for signed in variants(present, (-1, 1.5, None, {"x": {"y": {}}})):
        draft = base64.b64encode(json.dumps({"signed": signed, "signatures": []}).encode())
        drafts = {f"{version + 1}.{role}.json": draft.decode()}
        path.write_text(json.dumps({"purpose": "", "base": encoded, "drafts": drafts}))
        try:
            look_at_request(path, tmp_path)
        except SigningError:
            refused += 1
    assert refused > 20
