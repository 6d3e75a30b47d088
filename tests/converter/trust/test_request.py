"""Requests as files: what is refused before anybody signs."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from securesystemslib.signer import SSlibKey
from tuf.api.metadata import TargetFile

from contract.targets import FamilyPolicy
from converter.trust.ceremony import look_at_request, sign_request
from converter.trust.errors import DuplicateKey, RequestOutdated, RequestRefused, SigningError
from converter.trust.folder import read_trust, store
from converter.trust.metadata import set_policy
from converter.trust.request import Request, decode_request, encode_request
from tests.converter.trust.holders import never
from tests.trust.ceremony import World
from tests.trust.forgery import bump, forge, offline, stranger

Change = Callable[[Any], object]


def asked(world: World, role: str, change: Change) -> Path:
    """A request whose draft was changed by hand before anybody signed."""

    def drafted(signed: Any) -> None:
        bump(signed)
        change(signed)

    draft = forge(read_trust(world.keys).files[f"1.{role}.json"], drafted, [])
    return written(world, {f"2.{role}.json": draft})


def written(world: World, drafts: dict[str, bytes]) -> Path:
    """A request over what is in force."""

    def encoded(files: dict[str, bytes]) -> dict[str, str]:
        return {name: base64.b64encode(data).decode() for name, data in files.items()}

    base = read_trust(world.keys).files
    content = {"purpose": "nothing much", "base": encoded(base), "drafts": encoded(drafts)}
    path = world.directory / "request.json"
    path.write_text(json.dumps(content))
    return path


def weaker_root(root: Any) -> None:
    root.roles["root"].threshold = 1


def fewer_root_keys(root: Any) -> None:
    root.roles["root"].keyids = root.roles["root"].keyids[:1]


def inconsistent(root: Any) -> None:
    root.consistent_snapshot = False


def unheld_key(root: Any) -> None:
    root.roles["targets"].keyids.append("0" * 64)


def no_family(targets: Any) -> None:
    del targets.delegations.roles["digits"]


def wide_family(targets: Any) -> None:
    targets.delegations.roles["digits"].paths = ["*/*"]


def open_ended_family(targets: Any) -> None:
    targets.delegations.roles["digits"].terminating = False


def keyless_family(targets: Any) -> None:
    targets.delegations.roles["digits"].keyids = []


def smuggled_release(targets: Any) -> None:
    targets.targets["digits/9"] = TargetFile.from_data("digits/9", b"x", ["sha256"])


def no_hub_keys(targets: Any) -> None:
    del targets.targets["policy/hub-keys"]


@pytest.mark.parametrize(
    ("role", "change"),
    [
        ("root", weaker_root),
        ("root", inconsistent),
        ("root", unheld_key),
        ("targets", no_family),
        ("targets", wide_family),
        ("targets", open_ended_family),
        ("targets", keyless_family),
        ("targets", smuggled_release),
        ("targets", no_hub_keys),
    ],
)
def test_what_would_weaken_the_fleet_is_not_signed(world: World, role: str, change: Change) -> None:
    with pytest.raises(RequestRefused):
        sign_request(asked(world, role, change), world.keys, never)
    assert read_trust(world.keys).versions()[role] == 1


def test_a_floor_does_not_fall_by_request(world: World) -> None:
    def floor(counter: int) -> Change:
        def change(targets: Any) -> None:
            bump(targets)
            set_policy(targets, "policy/digits", FamilyPolicy(min_counter=counter))

        return change

    first = read_trust(world.keys).files["1.targets.json"]
    raised = forge(first, floor(3), offline(world, "targets-1"))
    store(world.keys, "targets", 2, raised)
    drafts = {"3.targets.json": forge(raised, floor(2), [])}

    with pytest.raises(RequestRefused, match="floor of digits"):
        sign_request(written(world, drafts), world.keys, never)


def alias(of: str) -> Change:
    """The same public key again, under another id."""

    def change(signed: Any) -> None:
        key = signed.keys[signed.roles[of].keyids[0]]
        signed.add_key(SSlibKey("d" * 64, key.keytype, key.scheme, key.keyval), "root")

    return change


def shared(root: Any) -> None:
    """A root key that may sign targets too: one loss would cost two roles."""
    root.add_key(root.keys[root.roles["root"].keyids[0]], "targets")


@pytest.mark.parametrize("change", [alias("root"), alias("targets"), alias("timestamp"), shared])
def test_one_public_key_under_two_ids_or_in_two_roles_is_not_signed(
    world: World, change: Change
) -> None:
    with pytest.raises(DuplicateKey):
        sign_request(asked(world, "root", change), world.keys, never)
    with pytest.raises(DuplicateKey):
        look_at_request(asked(world, "root", change), world.keys)


def test_a_root_with_fewer_keys_than_it_needs_is_not_signed(world: World) -> None:
    with pytest.raises(DuplicateKey, match="threshold"):
        sign_request(asked(world, "root", fewer_root_keys), world.keys, never)


def test_a_root_with_fewer_keys_than_before_is_not_signed(world: World) -> None:
    def one_less(root: Any) -> None:
        root.roles["root"].keyids = root.roles["root"].keyids[:2]

    with pytest.raises(RequestRefused, match="2 keys instead of 3"):
        sign_request(asked(world, "root", one_less), world.keys, never)


def test_a_version_that_skips_one_is_not_signed(world: World) -> None:
    with pytest.raises((RequestOutdated, RequestRefused)):
        sign_request(asked(world, "root", bump), world.keys, never)


def test_what_is_said_to_be_in_force_has_to_verify(world: World) -> None:
    trust = read_trust(world.keys)
    forged = forge(trust.files["1.targets.json"], lambda s: None, [stranger()])
    path = asked(world, "root", lambda s: None)
    content = json.loads(path.read_bytes())
    content["base"]["1.targets.json"] = base64.b64encode(forged).decode()
    path.write_text(json.dumps(content))

    with pytest.raises(RequestRefused, match="does not verify"):
        sign_request(path, world.keys, never)


def test_a_request_comes_back_as_it_went(world: World) -> None:
    request = decode_request(asked(world, "root", lambda s: None).read_bytes())
    again = decode_request(encode_request(request))

    assert isinstance(again, Request)
    assert again.drafts.files() == request.drafts.files()
    assert again.base.files == request.base.files


@given(st.binary(max_size=200) | st.text(max_size=200).map(str.encode))
def test_no_input_raises_anything_but_a_signing_error(data: bytes) -> None:
    with pytest.raises(SigningError):
        decode_request(data)


@given(
    st.dictionaries(
        st.sampled_from(["purpose", "base", "drafts", "schema"]),
        st.text(max_size=5)
        | st.integers()
        | st.dictionaries(st.sampled_from(["1.root.json", "x"]), st.text(max_size=9), max_size=2),
    )
)
def test_no_json_raises_anything_but_a_signing_error(content: dict[str, Any]) -> None:
    with pytest.raises(SigningError):
        decode_request(json.dumps(content).encode())
