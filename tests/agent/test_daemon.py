"""The daemon as a process: how it starts, speaks, obeys, survives and stops."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from agent.journal import Journal
from agent.serving.client import ServerClient
from agent.serving.protocol import control_socket, inference_socket
from agent.status import NotRunning, read_status
from agent.trust.local import install_root
from contract.codec import decode, decode_on
from contract.deployments import Outcome, Phase
from contract.envelope import seal
from contract.messages import Birth, Command, Death, Verb
from contract.topics import Channel, device_topic
from tests.agent.daemon import Daemon, Fleet, eventually, now_ms
from tests.agent.disks import SmallDisk
from tests.agent.serving import tiny_models as tiny
from tests.model import builders

UNWANTED = ["typer", "rich", "pydantic", "fastapi", "sqlalchemy", "matplotlib", "httpx", "onnx"]
RUNTIMES = ["onnxruntime", "ai_edge_litert", "tflite_runtime"]


@pytest.fixture
def started(request: pytest.FixtureRequest) -> Iterator[list[Daemon]]:
    """Whatever a test starts is gone afterwards."""
    daemons: list[Daemon] = []
    yield daemons
    for daemon in daemons:
        if daemon.process.poll() is None:
            daemon.kill()


def start(started: list[Daemon], state: Path, *arguments: str, **environment: str) -> Daemon:
    daemon = Daemon(state, *arguments, **environment)
    started.append(daemon)
    eventually(daemon.connected, 30)
    return daemon


def test_the_daemon_imports_neither_the_hubs_nor_the_terminals_packages() -> None:
    program = "import json, sys, agent.__main__; print(json.dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    top = {name.partition(".")[0] for name in json.loads(done.stdout)}
    assert top.isdisjoint(UNWANTED)
    assert top.isdisjoint(RUNTIMES), "a runtime's crash must not be the control process's"


def test_without_an_identity_it_says_what_to_do(state: Path) -> None:
    command = [sys.executable, "-m", "agent", "--state", str(state)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "outrider agent enroll FILE" in done.stderr


@pytest.mark.parametrize("content", ["{", '{"http_port": 99999}', '{"unknown": 1}'])
def test_bad_settings_are_named_in_one_line(state: Path, content: str) -> None:
    state.mkdir()
    (state / "agent.json").write_text(content)
    command = [sys.executable, "-m", "agent", "--state", str(state)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert "agent.json" in done.stderr


def test_it_says_birth_and_state_and_leaves_in_order(
    fleet: Fleet, state: Path, started: list[Daemon]
) -> None:
    credentials = fleet.enrolled(state, "pi-1")
    daemon = start(started, state, "--no-server")
    presence = device_topic("pi-1", Channel.PRESENCE)
    eventually(lambda: bool(fleet.states("pi-1", credentials)))
    birth = decode(Birth, fleet.hub.on(presence)[0])
    assert (birth.device, birth.wire, birth.hardware.device_class) == ("pi-1", [1], "generic")
    assert birth.stamp.clock_trusted
    assert fleet.states("pi-1", credentials)[0].assignment_seq == 0
    assert daemon.stop() == 0
    eventually(lambda: len(fleet.hub.on(presence)) == 2)
    death = decode_on(Channel.PRESENCE, fleet.hub.on(presence)[1])
    assert isinstance(death, Death)
    assert death.session == birth.session
    with pytest.raises(NotRunning, match="outrider agent run"):
        read_status(state)


@pytest.mark.parametrize(("level", "told"), [("info", False), ("debug", True)])
def test_a_key_that_need_not_sign_is_no_news(
    fleet: Fleet, state: Path, started: list[Daemon], level: str, told: bool
) -> None:
    """Two of the three holders of the root sign it; the third is missing at every refresh."""
    by = fleet.enrolled(state, f"pi-{level}")
    root = json.loads(fleet.world.repository.files()["1.root.json"])
    del root["signatures"][0]
    install_root(state / "tuf", json.dumps(root).encode())
    daemon = start(
        started, state, "--no-server", "--log-level", level, OUTRIDER_REFRESH_SECONDS="0.5"
    )
    eventually(lambda: any(each.tuf_versions for each in fleet.states(f"pi-{level}", by)), 30)
    assert daemon.stop() == 0
    assert ("No signature for keyid" in daemon.log) == told
    assert "INFO agent" in daemon.log


def test_one_state_directory_has_one_agent(
    fleet: Fleet, state: Path, started: list[Daemon]
) -> None:
    fleet.enrolled(state, "pi-2")
    daemon = start(started, state, "--no-server")
    command = [sys.executable, "-m", "agent", "--state", str(state)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert f"process {daemon.process.pid}" in done.stderr
    assert daemon.connected()
    daemon.kill()
    start(started, state, "--no-server")  # the kernel dropped the lock of the dead


def test_a_broken_journal_leaves_inference_running_and_says_so(
    fleet: Fleet, state: Path, started: list[Daemon]
) -> None:
    fleet.enrolled(state, "pi-3")
    (state / "journal.sqlite").write_bytes(b"no database" * 1000)
    daemon = Daemon(state)
    started.append(daemon)
    eventually(lambda: daemon.status().get("http_port") is not None, 30)
    status = daemon.status()
    assert status["updates"].startswith("off: ")
    assert ready(status["http_port"])
    assert daemon.stop() == 0


def test_a_journal_of_another_program_leaves_inference_running_and_says_so(
    fleet: Fleet, state: Path, started: list[Daemon]
) -> None:
    fleet.enrolled(state, "pi-8")
    journal = Journal(state / "journal.sqlite")
    journal.save_deployment("digits", b'{"family": 5}', [])
    journal.close()
    daemon = Daemon(state)
    started.append(daemon)
    eventually(lambda: daemon.status().get("http_port") is not None, 30)
    assert "deployment of digits" in daemon.status()["updates"]
    assert ready(daemon.status()["http_port"])
    assert daemon.stop() == 0


def test_a_device_that_boots_with_a_full_disk_serves_and_says_so(
    fleet: Fleet, small_disk: SmallDisk, started: list[Daemon]
) -> None:
    state = small_disk.directory / "state"
    fleet.enrolled(state, "pi-9")
    release = tiny.install(state, "1", tiny.scaled(1))
    tiny.serve_at_boot(state, release)
    first = start(started, state)
    assert first.stop() == 0
    small_disk.fill()
    daemon = Daemon(state)
    started.append(daemon)
    eventually(lambda: inference_socket(state).exists(), 30)
    eventually(lambda: "serving only" in daemon.log, 30)
    served = ServerClient(control_socket(state)).status().families["tiny"]
    assert served.digest == release.digest
    assert daemon.process.poll() is None
    assert daemon.stop() == 0


def test_a_release_goes_the_whole_way_and_every_row_is_acknowledged(
    fleet: Fleet, state: Path, started: list[Daemon]
) -> None:
    credentials = fleet.enrolled(state, "pi-4")
    release = fleet.publish(0)
    fleet.assign("pi-4", release, min_inferences=5, max_class_share=1.0, max_out_of_range=1.0)
    daemon = start(started, state)

    def phases() -> list[Phase]:
        return [e.phase for e in fleet.events("pi-4", credentials)]

    eventually(lambda: Phase.PROBATION in phases(), 60)
    port = daemon.status()["http_port"]
    for number in range(20):
        assert len(infer(port, number)) == 10
    eventually(lambda: Phase.COMMITTED in phases(), 30)
    final = next(e for e in fleet.events("pi-4", credentials) if e.outcome is not None)
    assert final.outcome is Outcome.SUCCEEDED
    assert final.digest == release.digest
    eventually(lambda: fleet.states("pi-4", credentials)[-1].assignment_seq == fleet.seq)
    family = fleet.states("pi-4", credentials)[-1].families["digits"]
    assert (family.serving, family.target) == (release.digest, "digits/1")
    eventually(
        lambda: (
            sum(
                r.inference["digits"].inferences
                for r in {r.seq: r for r in fleet.reports("pi-4")}.values()
                if "digits" in r.inference
            )
            == 20
        )
    )
    assert daemon.status()["outbox_pending"] > 0
    assert daemon.status()["tuf_versions"]["timestamp"] >= 1
    before = len(fleet.events("pi-4", credentials))
    # Nothing was acknowledged, so everything is sent again.
    eventually(lambda: len(fleet.events("pi-4", credentials)) > before)

    def drained() -> bool:
        fleet.acknowledge("pi-4", credentials)
        return bool(daemon.status().get("outbox_pending", 9) <= 1)

    eventually(drained)
    assert daemon.stop() == 0


def test_rows_outlive_a_killed_agent_and_go_again_under_the_same_number(
    fleet: Fleet, state: Path, started: list[Daemon]
) -> None:
    credentials = fleet.enrolled(state, "pi-5")
    daemon = start(started, state, "--no-server", OUTRIDER_REPORT_SECONDS="3600")
    fleet.command("pi-5", "c-1", Verb.RELEASE_HOLD, family="digits")
    eventually(lambda: bool(fleet.replies("pi-5", credentials)))
    first = fleet.replies("pi-5", credentials)[0]
    daemon.kill()
    heard = len(fleet.replies("pi-5", credentials))
    again = start(started, state, "--no-server", OUTRIDER_REPORT_SECONDS="3600")
    eventually(lambda: len(fleet.replies("pi-5", credentials)) > heard)
    second = fleet.replies("pi-5", credentials)[-1]
    assert (second.stamp.boot, second.seq) == (first.stamp.boot, first.seq)
    fleet.acknowledge("pi-5", credentials)
    eventually(lambda: again.status().get("outbox_pending") == 0)


def test_a_command_is_carried_out_once_and_a_strange_one_never(
    fleet: Fleet, state: Path, started: list[Daemon]
) -> None:
    credentials = fleet.enrolled(state, "pi-6")
    daemon = start(started, state, "--no-server", OUTRIDER_REPORT_SECONDS="3600")
    sealed = fleet.command("pi-6", "c-1", Verb.REPORT)
    eventually(lambda: bool(fleet.reports("pi-6")))
    topic = device_topic("pi-6", Channel.COMMAND)
    fleet.hub.send(topic, sealed)
    fleet.command("pi-6", "c-2", Verb.REPORT, expires_at_ms=now_ms() - 1)
    fleet.hub.send(topic, signed_by_a_stranger("pi-6"))
    fleet.hub.send(topic, b"garbage")
    eventually(lambda: daemon.status().get("refused", {}).get(topic, 0) >= 3)
    fleet.command("pi-6", "c-3", Verb.ROLLBACK, family="digits")
    eventually(lambda: {r.command for r in fleet.replies("pi-6", credentials)} == {"c-1", "c-3"})
    assert {r.seq for r in fleet.reports("pi-6")} == {fleet.reports("pi-6")[0].seq}
    rollback = next(r for r in fleet.replies("pi-6", credentials) if r.command == "c-3")
    assert not rollback.ok
    assert "no release of digits" in rollback.detail


def test_a_killed_server_is_started_again_and_the_link_stays(
    fleet: Fleet, state: Path, started: list[Daemon]
) -> None:
    fleet.enrolled(state, "pi-7")
    daemon = start(started, state)
    eventually(lambda: daemon.status().get("server_pid") is not None)
    first = daemon.status()
    os.kill(first["server_pid"], signal.SIGKILL)
    eventually(lambda: daemon.status().get("server_pid") not in (None, first["server_pid"]), 30)
    eventually(lambda: daemon.status()["server"] == "running")
    assert daemon.status()["connections"] == first["connections"]
    assert daemon.stop() == 0


def signed_by_a_stranger(device: str) -> bytes:
    message = Command(
        device=device,
        id="c-9",
        verb=Verb.REPORT,
        issued_at_ms=now_ms(),
        expires_at_ms=now_ms() + 60_000,
    )
    return seal(message, Ed25519PrivateKey.generate())


def ready(port: int) -> bool:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/v2/health/live") as answer:
        return bool(answer.status == 200)


def infer(port: int, seed: int) -> list[float]:
    data = builders.images(1, seed)
    body = {
        "inputs": [
            {
                "name": "image",
                "shape": list(data.shape),
                "datatype": "FP32",
                "data": data.ravel().tolist(),
            }
        ]
    }
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/v2/models/digits/infer",
        json.dumps(body).encode(),
        {"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request) as answer:  # noqa: S310 - our own server on loopback
        outputs = json.load(answer)["outputs"][0]["data"]
    return list(outputs)
