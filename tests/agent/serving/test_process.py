"""The server's process: started or found, watched, restarted, stopped, and outliving its parent."""

from __future__ import annotations

import contextlib
import http.client
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
import tritonclient.http as triton

from agent.errors import Crashed
from agent.serving.client import ServerClient
from agent.serving.process import Launch, ServerProcess, Watch
from agent.serving.protocol import SERVER_LOCK, control_socket, http_file
from tests.agent.serving import tiny_models as tiny
from tests.agent.wire import eventually


class Clock:
    """Time that stands, except for what is added to it."""

    def __init__(self) -> None:
        self.ahead = 0.0

    def __call__(self) -> float:
        return time.monotonic() + self.ahead


@contextlib.contextmanager
def process(state: Path, clock: Clock | None = None, port: int = 0) -> Iterator[ServerProcess]:
    launch = Launch(state, port, log_file=state / "server.log")
    found = ServerProcess(launch, clock or Clock(), patience_s=0.5)
    try:
        yield found
    finally:
        found.stop()


def wait_dead(found: ServerProcess) -> None:
    """Until it can be reaped, without reaping it: `tick` must see the death itself."""
    assert found.pid is not None
    os.waitid(os.P_PID, found.pid, os.WEXITED | os.WNOWAIT)


def test_a_started_server_is_a_child_in_the_same_process_group(state: Path) -> None:
    with process(state) as found:
        status = found.start()
        assert found.pid == status.pid
        assert not found.attached
        assert os.getpgid(status.pid) == os.getpgrp()
        assert found.tick() is Watch.RUNNING


def test_a_stop_is_in_good_order_and_leaves_no_socket(state: Path) -> None:
    with process(state) as found:
        found.start()
        found.stop()
        assert found.last_end == "exited with code 0"
        assert not control_socket(state).exists()
        assert not http_file(state).exists()
        found.stop()  # once more is no error


def test_a_running_server_is_found_and_can_be_stopped(state: Path) -> None:
    with tiny.server(state) as running, process(state) as found:
        status = found.start()
        assert status.pid == running.process.pid
        assert found.attached
        assert found.tick() is Watch.RUNNING
        found.stop()
        assert running.process.wait(10) == 0


def test_a_dead_server_is_started_again_with_a_growing_backoff(state: Path) -> None:
    clock = Clock()
    with process(state, clock) as found:
        found.start()
        for wait_s in (0.5, 1.0):
            assert found.pid is not None
            os.kill(found.pid, signal.SIGKILL)
            wait_dead(found)
            assert not found.alive()  # whoever notices first, the backoff holds
            assert found.tick() is Watch.WAITING
            assert found.last_end == "was killed by SIGKILL"
            clock.ahead += wait_s + 0.01
            assert found.tick() is Watch.RESTARTED
            found.wait_ready()
        assert found.restarts == 2


def test_a_server_that_lived_long_is_started_again_at_once(state: Path) -> None:
    clock = Clock()
    with process(state, clock) as found:
        first = found.start()
        clock.ahead += 61
        os.kill(first.pid, signal.SIGKILL)
        wait_dead(found)
        assert found.tick() is Watch.RESTARTED
        assert found.wait_ready().boot != first.boot


def test_a_found_server_that_dies_is_replaced_by_a_child(state: Path) -> None:
    clock = Clock()
    with tiny.server(state) as running, process(state, clock) as found:
        found.start()
        running.process.kill()
        running.process.wait(10)
        clock.ahead += 61
        assert found.tick() is Watch.RESTARTED
        assert found.wait_ready().pid != running.process.pid
        assert not found.attached


def test_a_server_that_cannot_start_says_how_it_ended(state: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    with tiny.server(other) as running, process(state, port=running.port) as found:
        with pytest.raises(Crashed, match="exited with code 1"):
            found.start()
        log = (state / "server.log").read_text()
        assert f"cannot listen on 127.0.0.1:{running.port}" in log
        assert "choose another --port" in log
        assert "Traceback" not in log


def test_a_server_that_does_not_listen_to_sigterm_is_killed(state: Path) -> None:
    with process(state) as found:
        pid = found.start().pid
        os.kill(pid, signal.SIGSTOP)
        found.stop(timeout_s=0.1)
        assert found.last_end == "was killed by SIGKILL"


def test_a_server_that_hangs_is_killed_and_started_again(state: Path) -> None:
    clock = Clock()
    with process(state, clock) as found:
        first = found.start()
        os.kill(first.pid, signal.SIGSTOP)
        for _ in range(3):
            assert found.tick() is Watch.RUNNING
            clock.ahead += 61
        wait_dead(found)
        assert found.tick() is Watch.RESTARTED
        assert found.wait_ready().boot != first.boot


def test_a_server_that_hangs_from_the_start_is_killed_in_the_end(state: Path) -> None:
    """E.g. in a runtime that never comes back from loading a model."""
    clock = Clock()
    with process(state, clock) as found:
        found._spawn()
        first = found.pid
        assert first is not None
        eventually(lambda: control_socket(state).exists())
        os.kill(first, signal.SIGSTOP)
        assert found.tick() is Watch.RUNNING
        clock.ahead += 290
        assert found.tick() is Watch.RUNNING
        assert os.waitid(os.P_PID, first, os.WEXITED | os.WNOWAIT | os.WNOHANG) is None
        clock.ahead += 11
        assert found.tick() is Watch.RUNNING
        wait_dead(found)
        assert found.tick() is Watch.RESTARTED
        assert found.wait_ready().pid != first


def test_a_hung_server_is_found_by_the_next_control_process_and_killed(state: Path) -> None:
    clock = Clock()
    with tiny.server(state) as running, process(state, clock) as found:
        os.kill(running.process.pid, signal.SIGSTOP)
        with pytest.raises(Crashed, match="did not answer"):
            found.start(timeout_s=0.1)
        assert found.pid == running.process.pid, "no second one can run beside it"
        clock.ahead += 301
        assert found.tick() is Watch.RUNNING
        assert running.process.wait(10) == -signal.SIGKILL
        clock.ahead += 1
        eventually(lambda: found.tick() is Watch.RESTARTED)
        assert found.wait_ready().pid == found.pid


def test_a_stale_process_id_is_nobodys_server(state: Path) -> None:
    (state / "run").mkdir()
    (state / "run" / SERVER_LOCK).write_text(f"{os.getpid()}\n")
    with process(state) as found:
        assert found.start().pid != os.getpid()
        assert not found.attached


def test_the_server_outlives_the_process_that_started_it(state: Path) -> None:
    parent = (
        "import sys; from pathlib import Path;"
        "from agent.serving.process import Launch, ServerProcess;"
        "ServerProcess(Launch(Path(sys.argv[1]), 0, log_file=Path(sys.argv[1]) / 'log')).start();"
        "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"
    )
    ended = subprocess.run(
        [sys.executable, "-c", parent, str(state)], cwd=tiny.ROOT, check=False, timeout=60
    )
    assert ended.returncode == -signal.SIGKILL
    with process(state) as found:
        status = ServerClient(control_socket(state)).status()
        assert found.start().boot == status.boot
        assert found.attached


def test_a_stop_lets_running_requests_finish(state: Path) -> None:
    tiny.serve_at_boot(state, tiny.install(state, "1", tiny.slow()))
    with process(state) as found:
        port = found.start().port
        body = msgspec.json.encode(
            {"inputs": [{"name": "x", "shape": [1, 4], "datatype": "FP32", "data": [1, 2, 3, 4]}]}
        )
        asked = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
        asked.request("POST", "/v2/models/tiny/infer", body)
        # One event loop: once it answers this, it has read the request before it.
        assert triton.InferenceServerClient(f"127.0.0.1:{port}").is_server_live()
        found.stop()
        assert asked.getresponse().status == 200
        assert found.last_end == "exited with code 0"
        asked.close()


def test_systemd_hears_when_the_server_is_ready_and_when_it_stops(state: Path) -> None:
    with bind_datagram(state / "notify") as heard:
        command = [sys.executable, "-m", "agent.serving", "--state", str(state), "--port", "0"]
        server = subprocess.Popen(
            command, cwd=tiny.ROOT, env={**os.environ, "NOTIFY_SOCKET": str(state / "notify")}
        )
        try:
            assert heard.recv(100) == b"READY=1"
            assert ServerClient(control_socket(state)).status().pid == server.pid
        finally:
            server.terminate()
            assert server.wait(20) == 0
        assert heard.recv(100) == b"STOPPING=1"


def bind_datagram(path: Path) -> socket.socket:
    bound = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    bound.settimeout(20)
    bound.bind(str(path))
    return bound


def test_a_second_server_on_one_state_folder_refuses(state: Path) -> None:
    with tiny.server(state) as running:
        command = [sys.executable, "-m", "agent.serving", "--state", str(state), "--port", "0"]
        second = subprocess.run(
            command, cwd=tiny.ROOT, capture_output=True, text=True, check=False, timeout=60
        )
        assert second.returncode == 1
        assert "already runs" in second.stderr
        assert len(second.stderr.splitlines()) == 1
        assert running.client.status().pid == running.process.pid
