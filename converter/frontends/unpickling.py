"""Holds a worker to what was allowed: no pickle looks up a class or function, unless trusted.

CPython announces each such look-up to its audit hooks before it happens, whichever library began
to unpickle. torch's own loader of plain tensors makes none.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator

from converter.frontends.refusal import Refusal

_forbidden = [False]
_installed = [False]


@contextlib.contextmanager
def pickles(*, trusted: bool) -> Iterator[None]:
    """While a model is read: refuse (`PickleNotTrusted`) what only `trusted` may do."""
    if not _installed[0]:
        sys.addaudithook(_listen)  # a hook is for good, hence the flag beside it
        _installed[0] = True
    _forbidden[0] = not trusted
    try:
        yield
    finally:
        _forbidden[0] = False


def _listen(event: str, _arguments: tuple[object, ...]) -> None:
    if event == "pickle.find_class" and _forbidden[0]:
        raise Refusal("PickleNotTrusted", RUNS_CODE)


RUNS_CODE = (
    "reading this file would run code out of it; give --trust-pickle if you know who made it"
)
