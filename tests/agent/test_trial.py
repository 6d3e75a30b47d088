"""The trial with a real child process: what it measures, and every way in which it can end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import msgspec
import psutil
import pytest

from agent.deployment.trial_process import (
    TrialCancelled,
    available_memory,
    require_memory,
    run_trial,
)
from agent.errors import Crashed, DeviceError, Malformed, OutOfMemory, Tampered, TrialFailed
from agent.store.install import install
from agent.store.layout import Layout, file_path
from agent.trial import NOT_PASSED, NOT_RUN, PASSED, TrialReport
from contract.manifest import Requirements
from tests.agent.deployment.releases import VARIANT, Released, make_release
from tests.agent.store.conftest import stage


@pytest.fixture(scope="module")
def released(tmp_path_factory: pytest.TempPathFactory) -> Released:
    return make_release(tmp_path_factory.mktemp("bundle"), "1")


def installed(tmp_path: Path, released: Released) -> Path:
    layout = Layout(tmp_path)
    layout.store.mkdir()
    layout.staging.mkdir()
    stage(layout, released)
    return install(layout, "digits", released.digest, VARIANT)


def never() -> bool:
    return False


def child(code: str) -> tuple[str, ...]:
    """A child that runs `code` instead of a trial."""
    return (sys.executable, "-c", code)


def test_a_trial_whose_parent_is_gone_ends_by_itself(tmp_path: Path) -> None:
    """The alarm ends it even where a runtime hangs in native code."""
    program = (
        "import signal, sys; from pathlib import Path; from agent import trial\n"
        "trial.LIFETIME_S = 1\n"
        "trial._run = lambda *_: signal.pause()\n"
        "trial.main(['--directory', '/', '--variant', 'v', '--digest', 'd'])\n"
    )
    ended = subprocess.run([sys.executable, "-c", program], check=False, timeout=30)
    assert ended.returncode == -signal.SIGALRM


def test_a_good_release_passes_and_is_measured(tmp_path: Path, released: Released) -> None:
    result = run_trial(installed(tmp_path, released), VARIANT, released.digest, never)
    assert result.samples == 8
    assert result.agreement == 1.0
    assert result.max_error < 1e-2
    assert 0 < result.p50_ms <= result.p95_ms
    assert result.peak_rss_bytes > 10_000_000


def test_spoilt_golden_samples_fail_with_figures(tmp_path: Path) -> None:
    spoilt = make_release(tmp_path, "9", golden_error=0.5)
    directory = tmp_path / "device"
    directory.mkdir()
    with pytest.raises(TrialFailed, match=r"largest error 0\.5"):
        run_trial(installed(directory, spoilt), VARIANT, spoilt.digest, never)


def test_an_altered_file_is_tampered(tmp_path: Path, released: Released) -> None:
    directory = installed(tmp_path, released)
    file_path(directory, released.variant.model).write_bytes(b"other")
    with pytest.raises(Tampered):
        run_trial(directory, VARIANT, released.digest, never)


def test_an_absent_release_is_malformed(tmp_path: Path) -> None:
    with pytest.raises(Malformed):
        run_trial(tmp_path, VARIANT, "0" * 64, never)


@pytest.mark.parametrize(
    ("code", "error", "words"),
    [
        ("import os; os.abort()", Crashed, "SIGABRT"),
        (f"import os; os.kill(os.getpid(), {signal.SIGSEGV.value})", Crashed, "SIGSEGV"),
        (f"import os; os.kill(os.getpid(), {signal.SIGKILL.value})", OutOfMemory, "killed"),
        ("raise SystemExit(1)", Crashed, "no report"),
        ("print('x' * 200000)", Crashed, "no report"),
        ("raise RuntimeError('bad wheel')", Crashed, "RuntimeError: bad wheel"),
        ("import time; time.sleep(60)", TrialFailed, "not done"),
    ],
)
def test_however_a_child_ends_it_is_an_error_with_a_class(
    tmp_path: Path, code: str, error: type[DeviceError], words: str
) -> None:
    # Only the sleeper can reach the limit; the others have time enough on a busy machine.
    before = psutil.Process().children()
    limit = 0.5 if "sleep" in code else 60.0
    with pytest.raises(error, match=words):
        run_trial(tmp_path, VARIANT, "0" * 64, never, limit, child(code))
    assert psutil.Process().children() == before


def test_a_cancelled_trial_leaves_no_process(tmp_path: Path) -> None:
    before = psutil.Process().children()
    with pytest.raises(TrialCancelled):
        run_trial(
            tmp_path, VARIANT, "0" * 64, lambda: True, 60.0, child("import time; time.sleep(60)")
        )
    assert psutil.Process().children() == before


def test_the_child_says_by_its_exit_code_how_it_went(tmp_path: Path, released: Released) -> None:
    directory = installed(tmp_path, released)
    assert exit_code(directory, released.digest) == PASSED
    assert exit_code(directory, "0" * 64) == NOT_RUN
    spoilt = make_release(tmp_path, "9", golden_error=0.5)
    other = tmp_path / "other"
    other.mkdir()
    assert exit_code(installed(other, spoilt), spoilt.digest) == NOT_PASSED


def exit_code(directory: Path, digest: str) -> int:
    arguments = ["--directory", str(directory), "--variant", VARIANT, "--digest", digest]
    ended = subprocess.run(
        [sys.executable, "-m", "agent.trial", *arguments], capture_output=True, check=False
    )
    msgspec.json.decode(ended.stdout, type=TrialReport)
    return ended.returncode


@pytest.mark.skipif(os.geteuid() != 0, reason="raising the score may need privileges elsewhere")
def test_the_child_asks_to_be_killed_first(tmp_path: Path) -> None:
    code = (
        "from agent.trial import _be_killed_first; _be_killed_first();"
        "print(open('/proc/self/oom_score_adj').read())"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    assert ended.stdout.strip() == b"1000"


def test_memory_is_asked_for_before_a_trial(tmp_path: Path, released: Released) -> None:
    assert available_memory() > 0
    require_memory(released.variant, 1 << 40)
    with pytest.raises(OutOfMemory, match="KiB are available"):
        require_memory(released.variant, 1_000_000)
    greedy = make_release(tmp_path, "8", requires=Requirements(memory_bytes=1 << 36))
    with pytest.raises(OutOfMemory, match="67108864 KiB"):
        require_memory(greedy.variant, 1 << 35)
