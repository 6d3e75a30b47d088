"""Names of keys travel with a request, as labels: they move no key and no name that is known."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from converter.trust.ceremony import export_request, look_at_request, sign_request
from converter.trust.custody import make_key
from converter.trust.errors import RequestRefused
from converter.trust.folder import read_trust
from converter.trust.named import NamedKey
from converter.trust.names import learn, names_of
from converter.trust.public import public_file
from converter.trust.renewal import renew
from converter.trust.request import decode_request
from tests.converter.trust.holders import ben, coordinator, folder_of, never, spread
from tests.trust.ceremony import World


def asked(world: World) -> Path:
    """A request that Ben may sign; Cy's key has a name in the coordinator's folder alone."""
    spread(world)
    renew(world.keys, ["root"], {}, {}, coordinator, world.now_ms)
    stick = world.directory / "stick.json"
    export_request(world.keys, stick)
    return stick


def called(directory: Path) -> set[str]:
    trust = read_trust(directory)
    return {names_of(directory, trust)[keyid] for keyid in trust.root.roles["root"].keyids}


def stranger(world: World, name: str, holder: str = "") -> NamedKey:
    return make_key(world.directory / "strange", name, holder, ben)


def test_a_key_has_one_name_in_every_folder(world: World) -> None:
    stick = asked(world)

    seen = look_at_request(stick, folder_of(world, "ben"))
    assert seen.missing[0].keys == ["root-ben", "root-cy"]
    assert sign_request(stick, folder_of(world, "ben"), ben).done

    assert called(folder_of(world, "ben")) == {"root-1", "root-ben", "root-cy"}
    assert sign_request(stick, world.keys, never).done


def test_a_request_with_a_name_that_its_key_did_not_sign_is_refused(world: World) -> None:
    stick = asked(world)
    content = json.loads(stick.read_bytes())
    content["names"][0]["name"] = "root-mallory"
    stick.write_text(json.dumps(content))

    with pytest.raises(RequestRefused, match="altered"):
        sign_request(stick, folder_of(world, "ben"), never)


def test_a_request_without_names_is_read(world: World) -> None:
    stick = asked(world)
    content = json.loads(stick.read_bytes())
    del content["names"]

    assert decode_request(json.dumps(content).encode()).names == ()


def test_a_name_that_is_known_here_is_not_given_to_another_key(world: World) -> None:
    other = stranger(world, "root-1")
    learn(world.keys, read_trust(world.keys), [other])

    assert names_of(world.keys, read_trust(world.keys), [other]).get(other.keyid) is None


def test_a_key_that_is_known_here_keeps_its_name(world: World) -> None:
    asked(world)
    before = called(world.keys)
    ours = NamedKey(
        name="else",
        public=decode_request((world.directory / "stick.json").read_bytes()).names[0].public,
        proof="0" * 128,
    )

    learn(world.keys, read_trust(world.keys), [ours])

    assert called(world.keys) == before
    assert not public_file(world.keys, "else").exists()


def test_a_private_key_that_is_found_by_its_place_is_not_renamed(world: World) -> None:
    trust = read_trust(world.keys)
    public = public_file(world.keys, "root-1")
    keyid = next(k for k, name in names_of(world.keys, trust).items() if name == "root-1")
    key = trust.root.keys[keyid].keyval["public"]
    public.unlink()

    learn(world.keys, trust, [NamedKey(name="anna", public=str(key), proof="0" * 128)])

    assert names_of(world.keys, trust)[keyid] == "root-1"


def test_a_holder_that_cannot_be_printed_is_not_taken(world: World) -> None:
    learn(world.keys, read_trust(world.keys), [stranger(world, "dan", "\x1b[2J")])

    assert not public_file(world.keys, "dan").exists()
