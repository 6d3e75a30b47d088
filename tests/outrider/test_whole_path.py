"""The command line against a real hub, broker and device: one release from file to rollback.

One story in the order in which people live it, since each step needs the one before.
"""

from __future__ import annotations

import json
import shlex
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from examples.digits import ask, data
from outrider.__main__ import main
from outrider.demo.processes import Processes
from outrider.demo.stage import AGENT_ENVIRONMENT, PASSPHRASE
from outrider.demo.traffic import Camera, Scans

MODELS = Path(data.__file__).parent
PATIENCE_S = 60.0


class Shell:
    """Runs commands as an operator does, and reads what they print as JSON."""

    def __init__(
        self, root: Path, capture: pytest.CaptureFixture[str], processes: Processes
    ) -> None:
        self.root = root
        self._capture = capture
        self._processes = processes

    def run(self, *line: str) -> tuple[int, str, str]:
        """Exit code, stdout, stderr of a command line, given whole or in parts."""
        self._capture.readouterr()
        code = main([word for part in line for word in shlex.split(part)])
        shown = self._capture.readouterr()
        return code, shown.out, shown.err

    def ok(self, *line: str) -> str:
        """The output of a command that must succeed."""
        code, out, err = self.run(*line)
        assert code == 0, err
        return out

    def json(self, *line: str) -> Any:
        """The same, as JSON."""
        return json.loads(self.ok(*line, "--json"))

    def refused(self, *line: str) -> str:
        """The one line of a command that must fail."""
        code, _, err = self.run(*line)
        assert code == 1
        assert len(err.strip().splitlines()) == 1, err
        return err

    def until(self, true: Callable[[], Any]) -> None:
        """Wait for it; a program that has ended by itself meanwhile is named, with its log."""
        until(true, self._processes.require_running)


def until(true: Callable[[], Any], meanwhile: Callable[[], None] = lambda: None) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not true():
        meanwhile()
        assert time.monotonic() < deadline
        time.sleep(0.1)


class Traffic:
    """One camera at a time in front of the device."""

    def __init__(self, device: Path) -> None:
        live = data.load_splits().live
        self._scans = Scans(live.image, live.labels)
        self._device = device
        self._camera: Camera | None = None

    def start(self) -> Camera:
        """Begin to ask."""
        self._camera = Camera("cam-1", self._device, "digits", self._scans)
        self._camera.start()
        return self._camera

    def stop(self) -> None:
        """From now on nothing proves itself."""
        if self._camera is not None:
            self._camera.stop()


@pytest.fixture
def shell(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    processes: Processes,
) -> Shell:
    monkeypatch.setenv("OUTRIDER_OPERATOR_CONFIG", str(tmp_path / "operator.json"))
    monkeypatch.setenv("OUTRIDER_STATE_DIR", str(tmp_path / "device"))
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    monkeypatch.chdir(tmp_path)
    return Shell(tmp_path, capsys, processes)


@pytest.fixture
def processes(tmp_path: Path) -> Iterator[Processes]:
    with Processes(tmp_path / "logs") as started:
        yield started


@pytest.fixture
def traffic(tmp_path: Path) -> Iterator[Traffic]:
    traffic = Traffic(tmp_path / "device")
    yield traffic
    traffic.stop()


# It takes 40 s on an idle machine, and waits up to a minute at each of a dozen places: on a busy
# one the limit for all tests would end it in the middle, where nothing is wrong.
@pytest.mark.timeout(600)
def test_one_release_from_file_to_rollback(
    shell: Shell, processes: Processes, traffic: Traffic
) -> None:
    make_hub_and_keys(shell, processes)
    make_bundles(shell)
    enrol_device(shell, processes)
    roll_out(shell, traffic)
    look_around(shell)
    change_keys(shell)
    steer(shell, traffic)
    take_back(shell)
    remove_device(shell)


def make_hub_and_keys(shell: Shell, processes: Processes) -> None:
    (shell.root / "p").write_bytes(PASSPHRASE + b"\n")
    shell.ok(
        "hub init hub --host localhost --api-port 0 --broker-port 0",
    )
    shell.ok(
        "keys init keys --hub-keys hub/hub-keys.json --family digits",
        "--passphrase-file p",
    )
    processes.start("hub", ["outrider", "hub", "serve", str(shell.root / "hub")], {})
    shell.until(lambda: shell.run("device", "list")[0] == 0)
    assert "trust accepted" in shell.ok("publish", "keys/trust.json")
    assert shell.json("device", "list") == []
    assert "no devices yet" in shell.run("device", "list")[2]
    assert "no rollouts yet" in shell.run("rollout", "list")[2]


def make_bundles(shell: Shell) -> None:
    data.write_conversion_inputs(shell.root)
    for version in ("1", "2"):
        described = shell.json(
            "convert",
            str(MODELS / f"digits-{version}.onnx"),
            "--calib calib.npz --eval eval.npz --family digits",
            f"--version {version} -o digits-{version}.bundle",
        )
        assert described["latency"]["p50_ms"] > 0
    assert "sign" in shell.refused("publish", "digits-1.bundle")
    (shell.root / "wrong").write_text("not the passphrase\n")
    assert "passphrase" in shell.refused("sign digits-1.bundle --keys keys --passphrase-file wrong")
    for version in ("1", "2"):
        signed = shell.json(f"sign digits-{version}.bundle --keys keys --passphrase-file p")
        assert signed["target"] == f"digits/{version}"
        published = shell.json("publish", f"digits-{version}.bundle")
        assert published["digest"] == signed["digest"]
    assert shell.json("inspect", "digits-1.bundle")["gate"]["passed"] is True


def enrol_device(shell: Shell, processes: Processes) -> None:
    shell.ok("device add cam-1 --class camera --label site=lyon")
    assert "exists already" in shell.refused("device", "add", "cam-1")
    assert "not valid" in shell.refused("device", "add", "Cam_1", "-o", "x.json")
    assert not (shell.root / "x.json").exists()
    shell.ok("agent", "enroll", "cam-1.enrol.json")
    assert shell.run("agent", "enroll", "cam-1.enrol.json")[0] == 1
    assert "no agent runs" in shell.refused("agent", "status")
    arguments = ["agent", "--state", str(shell.root / "device"), "--port", "0"]
    processes.start("cam-1", arguments, AGENT_ENVIRONMENT)
    shell.until(lambda: shell.json("device", "show", "cam-1")["alive"])


def roll_out(shell: Shell, traffic: Traffic) -> None:
    start = "rollout start digits:1 --to site=lyon --waves 100% --soak 1s --deadline 2m"
    plan = shell.json(start, "--dry-run")
    assert plan["cohort"] == 1
    assert shell.json("rollout", "list") == []
    assert "digits:9" in shell.refused("rollout start digits:9 --to all")
    assert "failed>10%" in shell.refused(start, "--abort-if", "whatever")
    rollout = shell.json(start, "--min-inferences", "20")["id"]
    shell.until(lambda: (shell.root / "device" / "run" / "http.json").exists())
    camera = traffic.start()
    assert "completed" in shell.ok("rollout", "watch", rollout)
    assert camera.answers.answered > 0


def look_around(shell: Shell) -> None:
    port = json.loads((shell.root / "device" / "run" / "http.json").read_text())["port"]
    live = data.load_splits().live
    assert ask.count_right(f"http://127.0.0.1:{port}", live) >= 0.98 * len(live)
    rollout = shell.json("rollout", "list")[0]["id"]
    shown = shell.json("rollout", "show", rollout)
    assert [d["outcome"] for d in shown["devices"]] == ["succeeded"]
    assert "cam-1" in shell.ok("rollout", "show", rollout)
    assert "complete" in shell.ok("rollout", "why", rollout)
    assert shell.json("rollout", "why", rollout)["items"]
    assert "digits/1" in shell.ok("device", "list", "--to", "site=lyon")
    assert "digits/1" in shell.ok("device", "show", "cam-1")
    assert shell.json("device", "list", "--to", "site=paris") == []
    assert "digits/1" in shell.ok("agent", "status")
    assert shell.json("agent", "status")["families"]["digits"]["phase"] == "committed"
    assert "1 of 1 device alive" in shell.ok("doctor")
    assert "r-none" in shell.refused("rollout", "show", "r-none")
    assert "cam-9" in shell.refused("device", "show", "cam-9")


def change_keys(shell: Shell) -> None:
    """New keys for the hub while it runs: the device follows, and the next rollout goes on them."""
    shell.ok("hub new-keys hub")
    assert "new online keys wait" in shell.ok("doctor")
    shell.ok("keys rotate keys online --hub-keys hub/hub-keys.json --passphrase-file p")
    shell.ok("keys renew keys digits --min-counter digits=1 --passphrase-file p")
    assert "root 2" in shell.ok("publish", "keys/trust.json")
    assert "new online keys wait" not in shell.ok("doctor")
    shell.until(lambda: shell.json("device", "show", "cam-1")["tuf_versions"].get("root") == 2)


def steer(shell: Shell, traffic: Traffic) -> None:
    traffic.stop()  # so that it cannot be over before it is paused
    start = "rollout start digits:2 --to all --waves 100% --soak 1s --min-inferences 20"
    rollout = shell.json(start)["id"]
    shell.ok("rollout", "pause", rollout)
    assert rollout in shell.refused(start)
    shell.ok("rollout", "resume", rollout)
    traffic.start()
    watched: list[int] = []
    thread = threading.Thread(target=lambda: watched.append(main(["rollout", "watch", rollout])))
    thread.start()
    thread.join(PATIENCE_S)
    assert watched == [0]
    assert "digits/2" in shell.ok("device", "list")
    assert shell.run("rollout", "abort", rollout)[0] == 1


def take_back(shell: Shell) -> None:
    rollback = shell.json("rollback", "digits")["id"]
    assert shell.run("rollout", "watch", rollback)[0] == 0
    shell.until(lambda: "digits/1" in shell.ok("device", "list"))
    aborted = shell.json("rollout start digits:2 --to all --waves 100% --soak 5m")["id"]
    assert shell.json("rollout", "abort", aborted)["rollout"]["status"] == "aborted"
    assert shell.run("rollout", "watch", aborted)[0] == 1


def remove_device(shell: Shell) -> None:
    shell.ok("device", "remove", "cam-1", "--yes")
    assert shell.json("device", "list") == []
