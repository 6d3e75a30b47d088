"""Files of torch that act while they are read are refused before torch reads them.

Each is shown to act with --trust-pickle, so that its silence without the flag says something.
"""

from __future__ import annotations

import subprocess
import sys
import zipfile
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path

import pytest

from converter import errors
from converter.frontends.isolation import ROOT
from converter.frontends.opening import open_source
from converter.frontends.settings import worker_environment
from converter.frontends.sources import InputShape, SourceOptions

pytestmark = pytest.mark.skipif(
    find_spec("torch") is None, reason="runs in .make/heavy-torch: make test-heavy"
)
KNOWN = {"image": InputShape("float32", (1, 8, 8))}
SAVE = """
import sys, torch
from typing import Tuple
ran = sys.argv[2]
class Writing(torch.nn.Module):
    def __init__(self, target: str):
        super().__init__()
        self.target = target
    def forward(self, image):
        torch.ops.aten.save(image, self.target)
        return image + 1
class Waking(torch.nn.Module):
    def __init__(self, target: str):
        super().__init__()
        self.target = target
        self.training = False
    @torch.jit.export
    def __getstate__(self) -> Tuple[str, bool]:
        return self.target, False
    @torch.jit.export
    def __setstate__(self, state: Tuple[str, bool]):
        self.target = state[0]
        self.training = False
        torch.ops.aten.save(torch.zeros(2), state[0])
    def forward(self, image):
        return image + 1
torch.jit.script(Writing(ran)).save(sys.argv[1] + "/writing.pt")
torch.jit.script(Waking(ran)).save(sys.argv[1] + "/waking.pt")
"""


def attempt(path: Path, *, trusted: bool) -> None:
    open_source(path, SourceOptions(trust_pickle=trusted, shapes=KNOWN))


@pytest.mark.parametrize("name", ["writing.pt", "waking.pt"])
def test_torchscript_that_writes_files_needs_the_flag(name: str, tmp_path: Path) -> None:
    script, ran = tmp_path / "save.py", tmp_path / "ran"
    script.write_text(SAVE)
    command = [sys.executable, str(script), str(tmp_path), str(ran)]
    subprocess.run(command, env=worker_environment(ROOT), check=True, timeout=110)
    with pytest.raises(errors.PickleNotTrusted, match=r"names 'save'.*--trust-pickle"):
        attempt(tmp_path / name, trusted=False)
    assert not ran.exists()
    with suppress(errors.ConvertError):  # what became of the model is not the matter here
        attempt(tmp_path / name, trusted=True)
    assert ran.exists()


def replaced(source: Path, target: Path, old: bytes, new: bytes) -> Path:
    """The archive with each `old` in its JSON replaced."""
    with zipfile.ZipFile(source) as before, zipfile.ZipFile(target, "w") as after:
        for member in before.infolist():
            content = before.read(member)
            if member.filename.endswith("model.json"):
                assert old in content
                content = content.replace(old, new)
            after.writestr(member, content)
    return target


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"\"Symbol('", b"\"__import__('os').makedirs('RAN', exist_ok=True) or Symbol('"),
        (b'"guards_code": []', b"\"guards_code\": [\"__import__('os').mkdir('RAN') or 1\"]"),
    ],
    ids=["a size", "a guard"],
)
def test_an_exported_program_with_code_needs_the_flag(
    saved: Path, tmp_path: Path, old: bytes, new: bytes
) -> None:
    ran = tmp_path / "ran"
    new = new.replace(b"RAN", str(ran).encode())
    path = replaced(saved / "dynamic.pt2", tmp_path / "evil.pt2", old, new)
    with pytest.raises(errors.PickleNotTrusted, match=r"holds an expression.*--trust-pickle"):
        attempt(path, trusted=False)
    assert not ran.exists()
    with suppress(errors.ConvertError):  # what became of the model is not the matter here
        attempt(path, trusted=True)
    assert ran.exists()
