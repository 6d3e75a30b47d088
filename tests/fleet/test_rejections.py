"""Refusals: all are counted, few are logged, none can spoil the log."""

from __future__ import annotations

import logging

import pytest
from sqlalchemy import select

from fleet.ports import HubServices
from fleet.rejections import LOG_EVERY_MS, Rejections, printable
from fleet.storage.schema import Rejected

TOPIC = "outrider/v1/dev/cam-1/up/event"


def counts(hub: HubServices, rejections: Rejections) -> dict[tuple[str, str], int]:
    with hub.storage.session() as session:
        rejections.save(session)
    rejections.saved()
    with hub.storage.reading() as session:
        return {(row.channel, row.error): row.count for row in session.scalars(select(Rejected))}


def test_counts_add_up_over_saves(hub: HubServices) -> None:
    rejections = Rejections()
    for now_ms in range(3):
        rejections.add(TOPIC, "BadSignature", "", now_ms)
    assert counts(hub, rejections) == {("up/event", "BadSignature"): 3}

    rejections.add(TOPIC, "BadSignature", "", 9)
    rejections.add("elsewhere", "InvalidTopic", "", 9)

    assert counts(hub, rejections) == {
        ("up/event", "BadSignature"): 4,
        ("unknown", "InvalidTopic"): 1,
    }


def test_a_clock_that_is_put_back_does_not_silence_the_log(
    caplog: pytest.LogCaptureFixture,
) -> None:
    rejections = Rejections()
    rejections.add(TOPIC, "BadSignature", "", 3_600_000)
    rejections.add(TOPIC, "BadSignature", "", 1_000)
    assert len(caplog.records) == 2


def test_nothing_is_counted_twice_after_a_save(hub: HubServices) -> None:
    rejections = Rejections()
    rejections.add(TOPIC, "BadSignature", "", 0)
    assert rejections
    counts(hub, rejections)

    assert not rejections
    assert counts(hub, rejections) == {("up/event", "BadSignature"): 1}


def test_a_flood_is_logged_once_in_a_while_with_its_topic(
    caplog: pytest.LogCaptureFixture,
) -> None:
    rejections = Rejections()
    with caplog.at_level(logging.WARNING):
        for _ in range(1_000):
            rejections.add(TOPIC, "BadSignature", "why", 0)
        assert len(caplog.records) == 1
        rejections.add(TOPIC, "MalformedMessage", "why", 0)
        rejections.add(TOPIC, "BadSignature", "why", LOG_EVERY_MS)

    assert len(caplog.records) == 3
    assert TOPIC in caplog.text


def test_a_strangers_topic_cannot_write_lines_into_the_log() -> None:
    assert printable("a\nroot logged in\x1b[2J") == "a?root logged in?[2J"
    assert len(printable("x" * 5_000)) == 200
