"""`hub serve` as a process: says when it is ready, and leaves nothing behind when it goes."""

from __future__ import annotations

import json
import os
import signal
import socket
import ssl
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPSConnection
from pathlib import Path
from typing import Any

import psutil
import pytest

from fleet.config import read_config
from tests.fleet.harness import HubDirectory, until

ROOM = Path(__file__).parents[2]
PROGRAM = """
import sys
from pathlib import Path
from fleet.errors import FleetError
from fleet.service import serve
try:
    serve(Path(sys.argv[1]))
except FleetError as error:
    sys.exit(str(error))
"""


@contextmanager
def serving(directory: Path, **environment: str) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-c", PROGRAM, str(directory)]
    with subprocess.Popen(
        command,
        cwd=ROOM,
        env=os.environ | environment,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def ready(directory: Path, process: subprocess.Popen[str]) -> dict[str, Any]:
    """What the ready file says of this very process; a killed one may have left its own."""
    path = directory / "run" / "hub.json"
    found: dict[str, Any] = {}

    def is_there() -> bool:
        assert process.poll() is None, process.stderr and process.stderr.read()
        found.update(json.loads(path.read_bytes()) if path.exists() else {})
        return found.get("pid") == process.pid

    until(is_there, wait_s=30)
    return found


def get(directory: Path, path: str, token: str = "") -> tuple[int, Any]:
    context = ssl.create_default_context(cafile=directory / "ca" / "root.crt")
    port = read_config(directory).api_port
    connection = HTTPSConnection("localhost", port, context=context, timeout=10)
    connection.request("GET", path, headers={"Authorization": f"Bearer {token}"} if token else {})
    answer = connection.getresponse()
    return answer.status, json.loads(answer.read())


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_serves_until_told_to_stop_and_leaves_no_process(
    hub_directory: HubDirectory, number: signal.Signals
) -> None:
    directory = hub_directory.hub
    with serving(directory) as process:
        found = ready(directory, process)
        config = read_config(directory)
        assert found == {
            "pid": process.pid,
            "api_port": config.api_port,
            "broker_port": config.broker_port,
        }
        assert get(directory, "/api/v1/healthz")[0] == 200
        until(lambda: get(directory, "/api/v1/status", hub_directory.token)[1]["broker"]["epoch"])
        children = psutil.Process(process.pid).children(recursive=True)
        assert [child.name() for child in children] == ["mosquitto"]

        process.send_signal(number)

        assert process.wait(20) == 0
        assert process.stderr is not None
        said = process.stderr.read()
        assert said.count(f"serving {config.api_url}, broker {config.broker_port}; Ctrl-C") == 1
        assert "uvicorn" not in said
        assert not any(child.is_running() for child in children)
    assert not (directory / "run" / "hub.json").exists()


def test_a_key_that_need_not_sign_is_no_news(hub_directory: HubDirectory) -> None:
    """Two of the three holders of the root sign it; the third is missing at every look."""
    directory = hub_directory.hub
    path = directory / "tuf" / "1.root.json"
    root = json.loads(path.read_bytes())
    del root["signatures"][0]
    path.write_text(json.dumps(root))
    with serving(directory) as process:
        ready(directory, process)
        until(lambda: get(directory, "/api/v1/status", hub_directory.token)[1]["broker"]["epoch"])
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
        assert process.stderr is not None
        said = process.stderr.read()
    assert "INFO fleet" in said
    assert "tuf.api" not in said


def test_a_killed_hub_takes_its_broker_along_and_starts_again(hub_directory: HubDirectory) -> None:
    directory = hub_directory.hub
    with serving(directory) as process:
        ready(directory, process)
        children = psutil.Process(process.pid).children(recursive=True)
        process.kill()
        process.wait()
        until(lambda: not any(child.is_running() for child in children))

    with serving(directory) as process:
        assert ready(directory, process)["pid"] == process.pid


@pytest.mark.parametrize("port", ["api_port", "broker_port"])
def test_a_busy_port_is_one_line_and_leaves_nothing_running(
    hub_directory: HubDirectory, port: str
) -> None:
    busy = getattr(read_config(hub_directory.hub), port)
    with socket.create_server(("127.0.0.1", busy)), serving(hub_directory.hub) as process:
        assert process.wait(20) == 1
        assert process.stderr is not None
        line = process.stderr.read().splitlines()[-1]

    assert str(busy) in line
    assert "hub.json" in line


def test_a_second_hub_is_refused_and_leaves_the_first_alone(hub_directory: HubDirectory) -> None:
    directory = hub_directory.hub
    with serving(directory) as first:
        ready(directory, first)
        with serving(directory) as second:
            assert second.wait(20) == 1
            assert second.stderr is not None
            assert "a hub is running already" in second.stderr.read().splitlines()[-1]
        assert ready(directory, first)["pid"] == first.pid
        assert get(directory, "/api/v1/healthz")[0] == 200


def test_a_directory_that_is_no_hub_is_one_line(tmp_path: Path) -> None:
    with serving(tmp_path) as process:
        assert process.wait(20) == 1
        assert process.stderr is not None
        (line,) = process.stderr.read().splitlines()

    assert "hub init" in line


def test_systemd_hears_that_it_is_ready_and_lives(
    hub_directory: HubDirectory, tmp_path: Path
) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(30)
        environment = {"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "10000000"}
        with serving(hub_directory.hub, **environment) as process:
            heard = [manager.recv(100)]
            while b"WATCHDOG=1" not in heard:
                heard.append(manager.recv(100))
            process.terminate()
            while heard[-1] != b"STOPPING=1":
                heard.append(manager.recv(100))
            assert process.wait(20) == 0

    assert heard[0] == b"READY=1"
