"""Every text of an exported program that torch would run is found, and no other."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import pytest

from converter.frontends.pt2_code import MAX_EXPRESSION, find_code, is_plain

ENUM = '"{\\"__enum__\\": true, \\"fqn\\": \\"antigravity\\"}"'
TREE = (
    '[1, {"type": "builtins.tuple", "context": "null", "children_spec": [{"type": "builtins.dict",'
    ' "context": "[\\"mask\\"]", "children_spec": [{"type": null, "context": null,'
    ' "children_spec": []}]}]}]'
)


def program(**changed: Any) -> dict[str, Any]:
    """What torch 2.13 writes, much shortened."""
    node = {
        "target": "torch.ops.aten.einsum.default",
        "inputs": [{"name": "equation", "arg": {"as_string": "bij,kj->bik"}}],
        "metadata": {"stack_trace": 'File "net.py", line 3, in forward\n    x = f(x)'},
    }
    size = {"as_expr": {"expr_str": "Symbol('s40', positive=True, integer=True)"}}
    made = {
        "nodes": [node],
        "sizes": [size],
        "forward_arg_names": ["image"],
        "in_spec": TREE,
        "guards_code": ["L['image'].size()[0] == L['mask'].size()[0]"],
        "torch_version": "2.13.0+cpu",
        "parameter_name": "blocks.0.weight",
    }
    return made | changed


def saved(folder: Path, content: Any, name: str = "net/models/model.json") -> Path:
    path = folder / "net.pt2"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("net/archive_format", "pt2")
        archive.writestr(name, content if isinstance(content, str) else json.dumps(content))
    return path


def test_what_torch_writes_holds_no_code(tmp_path: Path) -> None:
    assert find_code(saved(tmp_path, program())) is None


@pytest.mark.parametrize(
    "changed",
    [
        {"forward_arg_names": ["image=__import__('os').mkdir('x')"]},
        {"parameter_name": "weight\nimport os"},
        {"x = print()": 1},
        {"sizes": [{"as_expr": {"expr_str": "__import__('os').mkdir('x') or Integer(2)"}}]},
        {"guards_code": ["print(L['image'])"]},
        {"in_spec": TREE.replace("builtins.dict", "os.mkdir")},
        {
            "in_spec": TREE.replace(
                '"null"', '"{\\"__enum__\\": true, \\"fqn\\": \\"antigravity\\"}"'
            )
        },
        {"in_spec": TREE.replace("mask", "mask)+print(")},
        {"in_spec": "[1]"},
        {"nodes": [{"target": "torch.ops.aten.from_file.default"}]},
        {"nodes": [{"target": "torch.ops.aten.save"}]},
        {"torch_version": "2.13.0\n"},
    ],
)
def test_what_torch_would_run_is_found(tmp_path: Path, changed: dict[str, Any]) -> None:
    assert "expression" in str(find_code(saved(tmp_path, program(**changed))))


@pytest.mark.parametrize(
    "entry",
    [
        {"path_name": "weight_0", "use_pickle": True},
        {"path_name": "custom_obj_0", "use_pickle": False},
        {"use_pickle": False},
    ],
)
def test_pickled_objects_are_found(tmp_path: Path, entry: dict[str, Any]) -> None:
    path = saved(tmp_path, {"config": {"w": entry}}, "net/data/weights/model_weights_config.json")
    assert find_code(path) == "it holds pickled objects"


def test_weights_are_none(tmp_path: Path) -> None:
    entry = {"path_name": "weight_0", "use_pickle": False}
    path = saved(tmp_path, {"config": {"a.b": entry}}, "net/data/weights/model_weights_config.json")
    assert find_code(path) is None


def test_a_compiled_library_is_found(tmp_path: Path) -> None:
    path = saved(tmp_path, "", "net/data/aotinductor/model/wrapper.so")
    assert find_code(path) == "it holds a compiled library"


@pytest.mark.parametrize(
    "content", ["{", "[" * 200_000, '"\ud800"'.encode("utf-8", "surrogatepass")]
)
def test_what_is_no_json_is_damage(tmp_path: Path, content: Any) -> None:
    path = tmp_path / "net.pt2"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("net/models/model.json", content)
    with pytest.raises(ValueError):  # noqa: PT011  # whatever the decoder says
        find_code(path)


@pytest.mark.parametrize(
    "text",
    [
        "Symbol('s40', positive=True, integer=True)",
        "Mul(Integer(2), Symbol('s31', positive=True, integer=True))",
        "2*s77 + 1",
        "-int_oo",
        "L['x'].size()[0] == 2*L['mask'].size()[0]",
        "s0 % 2 == 0 and not s1 <= Max(3, s0)",
    ],
)
def test_arithmetic_on_symbols_is_plain(text: str) -> None:
    assert is_plain(text)


@pytest.mark.parametrize(
    "text",
    [
        "exit()",
        "().__class__",
        "s0.evalf",
        "s0.evalf()",
        "__import__",
        "Symbol('__import__(1)')",
        "Integer(print(1))",
        "Max(*[1, 2])",
        "Max(**s0)",
        "(lambda: 1)()",
        "[s for s in s0]",
        "(x := 1)",
        "f'{s0}'",
        "b'x'",
        "s0; s1",
        "s0\nimport os",
        "L['a b']",
        "x.size()()",
        "",
        "1+" * 100_000 + "1",
        "(" * MAX_EXPRESSION,
    ],
)
def test_anything_else_is_code(text: str) -> None:
    assert not is_plain(text)
