"""A release as one object: the order, the places, and the bytes behind one another."""

from __future__ import annotations

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contract.ids import digest_of
from fleet.packs import Pack, PackBody, Shelf, in_order, pack_of
from fleet.ports import HubServices
from fleet.releases import find_release, publish_bundle
from fleet.storage.schema import Blob
from tests.fleet.harness import HubDirectory

payloads = st.lists(st.binary(min_size=1, max_size=50), min_size=1, max_size=12, unique=True)


def packed(contents: list[bytes], release: str = "digits/1") -> tuple[Pack, dict[str, bytes]]:
    held = {digest_of(content): content for content in contents}
    return pack_of(release, list(held), [len(content) for content in held.values()]), held


@given(payloads, st.integers(1, 70))
def test_the_object_is_its_blobs_one_behind_the_other(contents: list[bytes], piece: int) -> None:
    pack, held = packed(contents)
    body = PackBody(pack, held.__getitem__)
    read = b"".join(iter(lambda: body.read(piece) or b"", b""))
    assert read == b"".join(contents)
    assert pack.length == len(read)
    for digest, (start, length) in pack.places.items():
        assert read[start : start + length] == held[digest]


@given(payloads, st.integers(0, 700))
def test_it_can_be_read_again_from_anywhere(contents: list[bytes], start: int) -> None:
    pack, held = packed(contents)
    body = PackBody(pack, held.__getitem__)
    assert body.seek(0, io.SEEK_END) == pack.length
    assert body.read(1) == b""
    body.seek(start)
    assert body.readall() == b"".join(contents)[start:]
    assert body.tell() == max(start, pack.length)


def test_a_blob_that_became_shorter_is_no_object() -> None:
    pack, held = packed([b"first", b"second"])
    held[pack.digests[1]] = b"sec"
    with pytest.raises(OSError, match="is shorter than it was"):
        PackBody(pack, held.__getitem__).readall()


def test_another_content_order_or_length_has_another_name() -> None:
    first, _ = packed([b"one", b"two"])
    same, _ = packed([b"one", b"two"], "words/7")
    assert first.name == same.name
    others = [packed([b"two", b"one"])[0], pack_of("a/1", first.digests, [3, 4])]
    assert len({first.name, *(other.name for other in others)}) == 3


def test_the_order_is_that_of_files_and_every_blob_is_in_it_once(
    hub: HubServices, hub_directory: HubDirectory
) -> None:
    publish_bundle(hub, hub_directory.signed("digits", "1"), "operator")
    with hub.storage.reading() as session:
        release = find_release(session, "digits/1")
        known = {blob.digest for blob in session.query(Blob).filter_by(release="digits/1")}
    order = in_order(release.manifest, hub.blobs.get)
    assert order[0] == release.digest
    assert len(order) == len(set(order))
    assert set(order) == known


class Here:
    """A bucket that gives any address."""

    def address(self, name: str) -> str:
        return f"https://s3/{name}"


def test_only_what_is_allowed_gets_a_place_and_each_once() -> None:
    pack, _ = packed([b"one", b"two"])
    one, two = pack.digests
    shelf = Shelf(Here(), {"digits/1": pack})
    found = shelf.places("digits/1", [two, one, two, "f" * 64], {one, two, "f" * 64})
    assert found == (f"https://s3/{pack.name}", [(3, 3), (0, 3), (0, 0), (0, 0)])
    assert shelf.places("digits/1", [one, two], {two}) == (found[0], [(0, 0), (3, 3)])
    assert shelf.places("digits/2", [one], {one}) is None
