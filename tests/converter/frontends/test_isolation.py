"""Whatever a worker process does, the caller gets one named error, and no process is left."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from converter import errors
from converter.frontends.isolation import (
    ROOT,
    Limits,
    last_words,
    read_answer,
    read_result,
    run_job,
    run_process,
)
from converter.frontends.settings import worker_environment

MODEL = Path("some.model")
LIMITS = Limits(20, 1 << 30)


def run(code: str, work: Path, limits: Limits = LIMITS) -> None:
    command = [sys.executable, "-c", code]
    run_process(command, MODEL, work, limits, worker_environment(ROOT))


def test_a_segmentation_fault_is_an_error_with_the_last_words(tmp_path: Path) -> None:
    code = (
        "import os, signal, sys; print('loading graph', file=sys.stderr, flush=True);"
        " os.kill(os.getpid(), signal.SIGSEGV)"
    )
    with pytest.raises(errors.FrontendCrashed, match=r"SIGSEGV \(it said last: loading graph\)"):
        run(code, tmp_path)


def test_a_real_segmentation_fault(tmp_path: Path) -> None:
    with pytest.raises(errors.FrontendCrashed, match="SIGSEGV"):
        run("import ctypes; ctypes.string_at(0)", tmp_path)


def test_scratch_files_of_a_killed_library_lie_in_its_work_folder(tmp_path: Path) -> None:
    code = "import os, tempfile; tempfile.mkstemp('.scratch'); os.kill(os.getpid(), 9)"
    with pytest.raises(errors.FrontendCrashed, match="SIGKILL"):
        run(code, tmp_path)
    assert len(list(tmp_path.glob("*.scratch"))) == 1


def test_an_uncaught_exception_is_an_error_with_its_words(tmp_path: Path) -> None:
    with pytest.raises(errors.FrontendCrashed, match=r"with status 1.*KeyError: 'weights'"):
        run("raise KeyError('weights')", tmp_path)


def test_silence_beyond_the_limit(tmp_path: Path) -> None:
    with pytest.raises(errors.FrontendTimedOut, match=r"no result after 0\.5 s"):
        run("import time; time.sleep(60)", tmp_path, Limits(0.5, 1 << 30))


def test_no_grandchild_outlives_the_call(tmp_path: Path) -> None:
    code = (
        "import pathlib, subprocess, sys, time\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])\n"
        "pathlib.Path('child').write_text(str(child.pid)); time.sleep(60)"
    )
    with pytest.raises(errors.FrontendTimedOut):
        run(code, tmp_path, Limits(3, 1 << 30))
    _until_it_is_gone(int((tmp_path / "child").read_text()))


def test_a_job_beyond_its_memory_is_an_error(tmp_path: Path) -> None:
    model = tmp_path / "m.joblib"
    model.write_bytes(b"x")
    with pytest.raises((errors.FrontendFailed, errors.FrontendCrashed, errors.ExtraMissing)):
        run_job("sklearn", model, tmp_path, Limits(60, 1 << 20), trust_pickle=True)


def test_an_unknown_job_is_refused(tmp_path: Path) -> None:
    with pytest.raises(errors.FrontendCrashed, match="status 2"):
        run_job("os", MODEL, tmp_path, LIMITS)


def test_an_answer_may_name_an_error_of_the_list(tmp_path: Path) -> None:
    answer = tmp_path / "result.json"
    answer.write_text(json.dumps({"error": "UnsupportedOperator", "message": "uses Foo"}))
    with pytest.raises(errors.UnsupportedOperator, match=r"some\.model: uses Foo"):
        read_answer(MODEL, answer)


def test_an_answer_may_not_name_any_other(tmp_path: Path) -> None:
    answer = tmp_path / "result.json"
    answer.write_text(json.dumps({"error": "SystemExit", "message": "ha"}))
    with pytest.raises(errors.FrontendFailed, match="ha"):
        read_answer(MODEL, answer)


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe"])
def test_no_answer_is_an_error(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "result.json").write_bytes(content)
    with pytest.raises(errors.FrontendCrashed, match="without an answer"):
        read_answer(MODEL, tmp_path / "result.json")


def test_an_endless_answer_is_not_read(tmp_path: Path) -> None:
    with (tmp_path / "result.json").open("wb") as file:
        file.truncate(1 << 30)
    with pytest.raises(errors.FrontendCrashed, match="endless"):
        read_answer(MODEL, tmp_path / "result.json")


def test_a_model_that_was_never_written(tmp_path: Path) -> None:
    with pytest.raises(errors.FrontendFailed, match="wrote no model"):
        read_result(MODEL, tmp_path / "model.onnx")


def test_last_words_are_few_and_printable(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_bytes(b"noise\n" * 100_000 + b"one\n\ntwo \x1b[31m red\nthree\xff\n")
    assert last_words(log).startswith(" (it said last: one | two ?[31m red | three")
    log.write_bytes(b"x" * 100_000)
    assert len(last_words(log)) < 450
    log.write_bytes(b"")
    assert last_words(log) == ""


def test_a_worker_is_repeatable_and_sees_no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", "/elsewhere")
    monkeypatch.setenv("PYTHONHASHSEED", "77")
    environment = worker_environment(ROOT)
    assert environment["PYTHONHASHSEED"] == "0"
    assert environment["CUDA_VISIBLE_DEVICES"] == "-1"
    assert environment["PYTHONPATH"] == f"{ROOT}{os.pathsep}/elsewhere"
    assert "PYTHONPATH" not in worker_environment()


def test_a_worker_ends_with_a_command_that_was_killed_outright(tmp_path: Path) -> None:
    """It waits for its request here, as it might for a library that never ends."""
    request = tmp_path / "request.json"
    os.mkfifo(request)
    code = (
        "import subprocess, sys\n"
        "command = [sys.executable, '-m', 'converter.frontends.worker', 'keras', sys.argv[1]]\n"
        "worker = subprocess.Popen(command, start_new_session=True)\n"
        "print(worker.pid, flush=True)\n"
        "worker.wait()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(request)],
        stdout=subprocess.PIPE,
        env=worker_environment(ROOT),
        text=True,
    ) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        pipe = _once_it_is_read(request)
        parent.kill()
    _until_it_is_gone(pid)
    os.close(pipe)


def _once_it_is_read(pipe: Path) -> int:
    """The writing end, held open: the reader waits."""
    end = time.monotonic() + 20
    while True:
        try:
            return os.open(pipe, os.O_WRONLY | os.O_NONBLOCK)
        except OSError:  # nobody reads yet
            assert time.monotonic() < end
            time.sleep(0.02)


def _until_it_is_gone(pid: int) -> None:
    stat = Path(f"/proc/{pid}/stat")
    end = time.monotonic() + 20
    while stat.exists() and stat.read_text().rsplit(")")[1].split()[0] != "Z":
        assert time.monotonic() < end
        time.sleep(0.02)
