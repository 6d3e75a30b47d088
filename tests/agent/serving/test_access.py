"""Who may ask over TCP."""

from __future__ import annotations

import pytest

from agent.serving.access import Access, is_loopback
from agent.serving.errors import ForeignOrigin, MalformedRequest, Unauthorised

Headers = list[tuple[bytes, bytes]]


def host(value: bytes, *more: tuple[bytes, bytes]) -> Headers:
    return [(b"host", value), *more]


@pytest.mark.parametrize(
    "value",
    [b"localhost", b"LocalHost:8080", b"127.0.0.1:1", b"127.9.9.9", b"[::1]:80", b"a.localhost"],
)
def test_loopback_names_may_ask(value: bytes) -> None:
    Access().check(host(value))


@pytest.mark.parametrize(
    "value",
    [
        b"evil.example",
        b"evil.example:8080",
        b"localhost.evil.example",
        b"127.0.0.1.evil.example",
        b"10.0.0.1",
        b"0.0.0.0",
        b"[::]",
        b"",
        b"localhost:80:80",
        b"user@localhost",
        b"localhost\xff",
    ],
)
def test_a_name_that_rebinding_could_use_is_refused(value: bytes) -> None:
    with pytest.raises(ForeignOrigin):
        Access().check(host(value))


@pytest.mark.parametrize("headers", [[], [(b"host", b"localhost"), (b"host", b"evil.example")]])
def test_a_request_has_exactly_one_host(headers: Headers) -> None:
    with pytest.raises(MalformedRequest):
        Access().check(headers)


@pytest.mark.parametrize(
    "origin", [b"https://evil.example", b"null", b"file://", b"http://localhost.evil.example", b""]
)
def test_a_page_from_elsewhere_is_refused(origin: bytes) -> None:
    with pytest.raises(ForeignOrigin):
        Access().check(host(b"localhost", (b"origin", origin)))


def test_a_page_of_this_machine_may_ask() -> None:
    Access().check(host(b"localhost:8080", (b"origin", b"http://127.0.0.1:3000")))


def test_a_token_is_asked_for_on_loopback_too_once_there_is_one() -> None:
    access = Access("s3cret-s3cret-s3cret")
    access.check(host(b"localhost", (b"authorization", b"Bearer s3cret-s3cret-s3cret")))
    with pytest.raises(Unauthorised):
        access.check(host(b"localhost"))
    with pytest.raises(ForeignOrigin):
        access.check(host(b"evil.example", (b"authorization", b"Bearer s3cret-s3cret-s3cret")))


@pytest.mark.parametrize(
    "value", [b"", b"Bearer", b"Bearer x", b"Basic s3cret", b"bearer  s3cret\xff"]
)
def test_a_wrong_token_is_refused(value: bytes) -> None:
    with pytest.raises(Unauthorised):
        Access("s3cret", any_host=True).check(host(b"device", (b"authorization", value)))


def test_off_loopback_the_token_alone_decides() -> None:
    headers = host(b"camera-7:8080", (b"authorization", b"bearer s3cret"))
    Access("s3cret", any_host=True).check(headers)
    with pytest.raises(Unauthorised):
        Access("s3cret", any_host=True).check([*headers, (b"authorization", b"bearer s3cret")])


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("127.0.0.1", True),
        ("::1", True),
        ("localhost.", True),
        ("192.168.1.7", False),
        ("pi", False),
    ],
)
def test_what_counts_as_loopback(name: str, expected: bool) -> None:
    assert is_loopback(name) is expected
