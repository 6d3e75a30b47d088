"""The data plane with real models and no HTTP: bounded waiting, swaps, counting."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pytest

from agent.errors import Malformed, PolicyRefused, Tampered
from agent.serving.dataplane import DataPlane, Limits
from agent.serving.errors import Busy, InferenceBroke, UnknownModel
from agent.serving.served import Served
from tests.agent.serving import tiny_models as tiny
from tests.agent.serving.tiny_models import SAMPLES, WEIGHTS

T = TypeVar("T")


def run(work: Coroutine[Any, Any, T]) -> T:
    return asyncio.run(work)


def plane(**limits: int) -> DataPlane:
    return DataPlane(Limits(**limits), lambda: 1_000)


async def serve(on: DataPlane, release: tiny.Release) -> None:
    await on.load(release.family, release.digest, release.directory, release.variant)
    on.activate(release.family, release.digest)


def infer(served: Served) -> tuple[str, Any]:
    return served.version, served.infer({"x": SAMPLES})["y"]


def test_a_candidate_answers_nobody_until_it_is_activated(state: Path) -> None:
    old = tiny.install(state, "1", tiny.scaled(1))
    new = tiny.install(state, "2", tiny.scaled(2))

    async def story() -> None:
        on = plane()
        await serve(on, old)
        await on.load("tiny", new.digest, new.directory, new.variant)
        assert (await on.run("tiny", None, infer))[0] == "1"
        assert [c.digest for c in on.candidates()] == [new.digest]
        activated = on.activate("tiny", new.digest)
        assert (activated.changed, activated.replaced) == (True, old.digest)
        version, y = await on.run("tiny", None, infer)
        assert version == "2"
        np.testing.assert_allclose(y, 2 * SAMPLES @ WEIGHTS, rtol=1e-5)
        assert on.candidates() == []
        await on.close()

    run(story())


def test_requests_in_flight_finish_on_the_model_they_began_with(state: Path) -> None:
    old = tiny.install(state, "1", tiny.slow(100_000))
    new = tiny.install(state, "2", tiny.scaled(2))

    async def story() -> None:
        on = plane()
        await serve(on, old)
        await on.load("tiny", new.digest, new.directory, new.variant)
        before = on.model("tiny")
        running = [asyncio.ensure_future(on.run("tiny", None, infer)) for _ in range(4)]
        await asyncio.sleep(0)
        assert before.in_flight == 4
        on.activate("tiny", new.digest)
        assert (await on.run("tiny", None, infer))[0] == "2"
        assert {version for version, _ in await asyncio.gather(*running)} == {"1"}
        _, retired = await on.counters()
        assert retired["tiny"].good == 4
        await on.close()
        with pytest.raises(InferenceBroke, match="closed"):
            before.infer({"x": SAMPLES})

    run(story())


def test_more_than_may_wait_is_busy_and_nothing_else_fails(state: Path) -> None:
    release = tiny.install(state, "1", tiny.slow(50_000))

    async def story() -> list[object]:
        on = plane(workers=1, waiting=2)
        await serve(on, release)
        asked = [on.run("tiny", None, infer) for _ in range(6)]
        found = await asyncio.gather(*asked, return_exceptions=True)
        assert (await on.run("tiny", None, infer))[0] == "1"
        await on.close()
        return list(found)

    found = run(story())
    assert sum(isinstance(answer, Busy) for answer in found) == 3
    assert sum(isinstance(answer, tuple) for answer in found) == 3


def test_loading_and_activating_again_change_nothing(state: Path) -> None:
    release = tiny.install(state, "1", tiny.scaled(1))

    async def story() -> None:
        on = plane()
        await serve(on, release)
        first = on.model("tiny")
        await serve(on, release)
        assert on.model("tiny") is first
        assert not on.activate("tiny", release.digest).changed
        await on.close()

    run(story())


def test_a_second_candidate_takes_the_firsts_place(state: Path) -> None:
    first = tiny.install(state, "1", tiny.scaled(1))
    second = tiny.install(state, "2", tiny.scaled(2))

    async def story() -> None:
        on = plane()
        await on.load("tiny", first.digest, first.directory, first.variant)
        await on.load("tiny", second.digest, second.directory, second.variant)
        assert [c.digest for c in on.candidates()] == [second.digest]
        with pytest.raises(Malformed, match="not loaded"):
            on.activate("tiny", first.digest)
        await on.close()

    run(story())


def test_unloading_is_idempotent(state: Path) -> None:
    release = tiny.install(state, "1", tiny.scaled(1))

    async def story() -> None:
        on = plane()
        await serve(on, release)
        await on.unload("tiny", "0" * 64)
        assert on.model("tiny").digest == release.digest
        await on.unload("tiny", release.digest)
        await on.unload("tiny", release.digest)
        with pytest.raises(UnknownModel):
            on.model("tiny")
        await on.close()

    run(story())


def test_a_model_that_was_altered_on_disk_is_not_loaded(state: Path) -> None:
    release = tiny.install(state, "1", tiny.scaled(1))
    path = release.directory / "files" / "model.onnx"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)

    async def story() -> None:
        on = plane()
        with pytest.raises(Tampered, match=r"model\.onnx"):
            await on.load("tiny", release.digest, release.directory, release.variant)
        await on.close()

    run(story())


def test_a_release_of_another_family_is_not_loaded(state: Path) -> None:
    release = tiny.install(state, "1", tiny.scaled(1), family="other")

    async def story() -> None:
        on = plane()
        with pytest.raises(Malformed, match="not of family tiny"):
            await on.load("tiny", release.digest, release.directory, release.variant)
        await on.close()

    run(story())


def test_there_is_room_for_so_many_families_only(state: Path) -> None:
    releases = [tiny.install(state, "1", tiny.scaled(1), family=f"f{i}") for i in range(33)]

    async def story() -> None:
        on = plane()
        for release in releases[:32]:
            await serve(on, release)
        with pytest.raises(PolicyRefused):
            await serve(on, releases[32])
        await on.close()

    run(story())


def test_invalid_outputs_are_answered_and_counted(state: Path) -> None:
    release = tiny.install(state, "1", tiny.square_root())

    async def story() -> None:
        on = plane()
        await serve(on, release)
        _, y = await on.run("tiny", None, infer)
        assert np.isnan(y).any()
        found = (await on.counters())[0]["tiny"]
        assert (found.inferences, found.good, found.invalid) == (1, 0, 1)
        await on.close()

    run(story())


def test_a_constant_model_shows_in_its_longest_run(state: Path) -> None:
    release = tiny.install(state, "1", tiny.constant())

    async def story() -> None:
        on = plane()
        await serve(on, release)
        await on.run("tiny", None, infer)
        assert (await on.counters())[0]["tiny"].longest_constant_run == len(SAMPLES)
        await on.close()

    run(story())


def test_probes_are_counted_apart(state: Path) -> None:
    good = tiny.install(state, "1", tiny.scaled(1))
    wrong = tiny.install(state, "2", tiny.scaled(3))

    async def story() -> None:
        on = plane()
        await serve(on, good)
        assert (await on.probe("tiny", 5)).passed
        await serve(on, wrong)
        probed = await on.probe("tiny", 999)
        assert (probed.samples, probed.passed) == (len(SAMPLES), False)
        now, before = await on.counters()
        assert (before["tiny"].probes, before["tiny"].inferences) == (5, 0)
        assert (now["tiny"].probes, now["tiny"].inferences) == (len(SAMPLES), 0)
        await on.close()

    run(story())
