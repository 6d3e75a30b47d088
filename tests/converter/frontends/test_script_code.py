"""TorchScript that names what reaches beyond its own numbers is found, however it is written."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

from converter.frontends.script_code import MAX_CODE, find_reach

PLAIN = """class Net(Module):
  training : bool
  def forward(self: __torch__.Net,
    image: Tensor) -> Tensor:
    saved = torch.relu(image)
    classes_ = (saved).forward(torch.flatten(saved, 1), )
    return classes_
"""


def saved(folder: Path, code: str | bytes, name: str = "net/code/__torch__.py") -> Path:
    path = folder / "net.pt"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("net/constants.pkl", b"\x80\x02).")
        archive.writestr(name, code)
    return path


def test_a_network_reaches_for_nothing(tmp_path: Path) -> None:
    assert find_reach(saved(tmp_path, PLAIN)) is None


@pytest.mark.parametrize(
    "line",
    [
        'torch.save(x, "/etc/x")',
        'x.save("/etc/x")',
        'torch . \\\n save (x, "/etc/x")',
        "(torch.save # so\n (x, y))",
        'ops.aten.save(x, "/etc/x")',
        'torch.from_file("/etc/x", True, 4)',
        "ops.debugprims.load_tensor(n)",
        "rpc_sync(to, f)",
    ],
)
def test_files_and_other_machines_are_found(tmp_path: Path, line: str) -> None:
    found = find_reach(saved(tmp_path, f"{PLAIN}    {line}\n"))
    assert "reaches beyond the model" in str(found)


@pytest.mark.parametrize(
    "line", ["__torch__.torch.classes.dist_c10d.Store", "(torch. # x\n classes.a.b)"]
)
def test_native_objects_are_found(tmp_path: Path, line: str) -> None:
    assert "class of torch itself" in str(find_reach(saved(tmp_path, f"{PLAIN}    {line}\n")))


def test_native_objects_in_attributes_are_found(tmp_path: Path) -> None:
    content = b"\x80\x02c__torch__.torch.classes.quantized\nLinearPackedParamsBase\n."
    found = find_reach(saved(tmp_path, content, "net/data.pkl"))
    assert "class of torch itself" in str(found)


def test_the_second_of_two_members_of_one_name_is_looked_at_too(tmp_path: Path) -> None:
    path = saved(tmp_path, "torch.save(x, y)")
    with zipfile.ZipFile(path, "a") as archive, pytest.warns(UserWarning, match="Duplicate"):
        archive.writestr("net/code/__torch__.py", PLAIN)
    assert find_reach(path) is not None


def test_code_without_end_is_damage(tmp_path: Path) -> None:
    path = tmp_path / "net.pt"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("net/code/__torch__.py", bytes(MAX_CODE + 1))
    with pytest.raises(ValueError, match="more than"):
        find_reach(path)
