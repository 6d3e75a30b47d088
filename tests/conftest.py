"""What holds for every test: nothing of the account that runs them is written to."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import pytest

# Rich keeps the width for good when COLUMNS is set at the moment a console is made, and xdist sets
# it: so it goes before anything is imported, and each test says how wide its terminal is.
os.environ.pop("COLUMNS", None)

# A shell has what it runs in the background ignore Ctrl-C, and nohup a closed terminal: programs
# that tests start, and interrupt, would inherit that.
for _number, _usual in (
    (signal.SIGINT, signal.default_int_handler),
    (signal.SIGHUP, signal.SIG_DFL),
):
    if signal.getsignal(_number) is signal.SIG_IGN:
        signal.signal(_number, _usual)


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Measurements are kept in a folder of this run, also by the programs that tests start."""
    before = os.environ.get("OUTRIDER_CACHE_DIR")
    os.environ["OUTRIDER_CACHE_DIR"] = str(tmp_path_factory.mktemp("cache"))
    yield
    if before is None:
        del os.environ["OUTRIDER_CACHE_DIR"]
    else:
        os.environ["OUTRIDER_CACHE_DIR"] = before
