"""What a server serves when it comes up alone, from serving.json."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import msgspec
import pytest
import tritonclient.http as triton

from agent.serving.protocol import ServedModel, control_socket
from agent.store.serving_file import ServingFile, serving_path, write_serving
from contract.deployments import Cause
from tests.agent.serving import tiny_models as tiny


def alter(release: tiny.Release) -> None:
    path = release.directory / "files" / "model.onnx"
    path.write_bytes(path.read_bytes()[:-1] + b"\x00")


def crash(running: tiny.Running) -> None:
    os.kill(running.process.pid, signal.SIGKILL)
    running.process.wait(10)


def served_after_boot(state: Path) -> ServedModel:
    with tiny.server(state) as running:
        return running.client.status().families["tiny"]


def test_an_altered_model_gives_way_to_its_predecessor(state: Path) -> None:
    old, new = (tiny.install(state, v, tiny.scaled(1)) for v in ("1", "2"))
    tiny.serve_at_boot(state, new, previous=old)
    alter(new)
    served = served_after_boot(state)
    assert (served.digest, served.fallback) == (old.digest, True)
    assert served.fallback_cause is Cause.TAMPERED
    assert "model.onnx" in served.reason


def test_a_model_that_does_not_load_gives_way_to_its_predecessor(state: Path) -> None:
    old = tiny.install(state, "1", tiny.scaled(1))
    new = tiny.install(state, "2", b"no model")
    tiny.serve_at_boot(state, new, previous=old)
    served = served_after_boot(state)
    assert (served.digest, served.fallback_cause) == (old.digest, Cause.TRIAL_FAILED)


def test_the_nearest_predecessor_that_loads_serves(state: Path) -> None:
    one, two, three = (tiny.install(state, v, tiny.scaled(1)) for v in ("1", "2", "3"))
    entry = msgspec.structs.replace(three.entry(), previous=two.entry(previous=one))
    write_serving(state, ServingFile(families={"tiny": entry}))
    alter(two)
    alter(three)
    served = served_after_boot(state)
    assert (served.target, served.fallback_cause) == ("tiny/1", Cause.TAMPERED)


def test_a_family_that_cannot_be_served_makes_the_server_not_ready(state: Path) -> None:
    only = tiny.install(state, "1", tiny.scaled(1))
    tiny.serve_at_boot(state, only)
    alter(only)
    good = tiny.install(state, "2", tiny.scaled(1))
    with tiny.server(state) as running:
        asker = triton.InferenceServerClient(running.url)
        assert running.client.status().families == {}
        assert "model.onnx" in running.client.status().unserved["tiny"]
        assert asker.is_server_live()
        assert not asker.is_server_ready()
        running.client.load("tiny", good.digest, good.directory, good.variant)
        running.client.activate("tiny", good.digest)
        assert asker.is_server_ready()
        assert running.client.status().unserved == {}


def test_a_broken_serving_file_leaves_a_server_that_can_be_told(state: Path) -> None:
    serving_path(state).write_bytes(b"{")
    release = tiny.install(state, "1", tiny.scaled(1))
    with tiny.server(state) as running:
        running.client.load("tiny", release.digest, release.directory, release.variant)
        running.client.activate("tiny", release.digest)
        assert running.client.status().families["tiny"].digest == release.digest


def test_two_crashes_on_probation_bring_the_predecessor_back(state: Path) -> None:
    old, new = (tiny.install(state, v, tiny.scaled(1)) for v in ("1", "2"))
    tiny.serve_at_boot(state, new, previous=old, probation=True)
    for _ in range(2):
        with tiny.server(state) as running:
            assert running.client.status().families["tiny"].digest == new.digest
            crash(running)
    for _ in range(2):  # and it stays so until serving.json says otherwise
        served = served_after_boot(state)
        assert (served.digest, served.fallback) == (old.digest, True)
        assert served.fallback_cause is Cause.CRASHED
        assert "died 2 times" in served.reason


def test_a_crash_right_after_activation_counts(state: Path) -> None:
    old, new = (tiny.install(state, v, tiny.scaled(1)) for v in ("1", "2"))
    tiny.serve_at_boot(state, old)
    with tiny.server(state) as running:
        running.client.load("tiny", new.digest, new.directory, new.variant)
        tiny.serve_at_boot(state, new, previous=old, probation=True)
        running.client.activate("tiny", new.digest)
        crash(running)
    with tiny.server(state) as running:
        running.client.load("tiny", new.digest, new.directory, new.variant)
        running.client.activate("tiny", new.digest)  # again, as a control process would at boot
        crash(running)
    assert served_after_boot(state).fallback


def test_stops_in_good_order_and_proven_models_never_fall_back(state: Path) -> None:
    old, new = (tiny.install(state, v, tiny.scaled(1)) for v in ("1", "2"))
    tiny.serve_at_boot(state, new, previous=old, probation=True)
    for _ in range(3):
        assert not served_after_boot(state).fallback
    tiny.serve_at_boot(state, new, previous=old, probation=False)
    for _ in range(3):
        with tiny.server(state) as running:
            assert not running.client.status().families["tiny"].fallback
            crash(running)


def test_activating_what_it_fell_back_to_ends_the_fallback(state: Path) -> None:
    old, new = (tiny.install(state, v, tiny.scaled(1)) for v in ("1", "2"))
    tiny.serve_at_boot(state, new, previous=old)
    alter(new)
    with tiny.server(state) as running:
        running.client.activate("tiny", old.digest)
        assert not running.client.status().families["tiny"].fallback


def test_a_state_folder_with_a_very_long_path_serves(tmp_path: Path) -> None:
    state = tmp_path / ("long-" * 20) / ("path-" * 20)
    state.mkdir(parents=True)
    tiny.serve_at_boot(state, tiny.install(state, "1", tiny.scaled(1)))
    assert len(str(control_socket(state))) > 200
    assert served_after_boot(state).target == "tiny/1"


@pytest.mark.parametrize("port", [0])
def test_any_free_port_stays_the_same_over_restarts(state: Path, port: int) -> None:
    found = []
    for _ in range(2):
        with tiny.server(state, port=port) as running:
            found.append(running.port)
            crash(running)
    assert found[0] == found[1]
