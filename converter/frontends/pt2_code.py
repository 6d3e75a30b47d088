"""What reading an exported program (`.pt2`) would run, found before torch reads it.

torch.export.load evaluates the file's expressions, executes its guards, writes its names into the
source of a module that it then runs, imports what its trees of inputs name, and loads compiled
libraries out of the archive. So every text is held to the alphabet of its place, and anything else
counts as code. Knows the archive's table and its JSON; imports nothing of torch, runs nothing.
"""

from __future__ import annotations

import ast
import json
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

MAX_TEXT = 64 << 20
"""Bytes of one JSON member: names and shapes, no weights."""
MAX_EXPRESSION = 1_000
_WORD = re.compile(r"[\w.]*", re.ASCII)
_VERSION = re.compile(r"[\w.+-]*", re.ASCII)
_INERT = frozenset(
    {"as_string", "as_strings", "nn_module_stack", "source_fn_stack", "stack_trace", "torch_fn"}
)
"""Arguments, which are quoted, and remarks on where a node came from, which are kept as text."""
_TREES = frozenset({None, "builtins.dict", "builtins.list", "builtins.tuple"})
_ARITHMETIC = "Add Float Integer Max Min Mod Mul Pow PowByNatural PythonMod Rational Symbol ToFloat"
_ROUNDING = "CeilDiv CleanDiv FloatTrueDiv FloorDiv IntTrueDiv ModularIndexing TruncToInt"
_LOGIC = "And Eq Ge Gt Le Lt Ne Not Or"
_FUNCTIONS = frozenset(f"{_ARITHMETIC} {_ROUNDING} {_LOGIC} ceiling floor".split())
_METHODS = frozenset({"dim", "size", "storage_offset", "stride"})
_REACH = frozenset({"classes", "from_file", "load_tensor", "save"})
"""Operators that read and write files, and torch's own native objects."""
_PAYLOADS = ("tensor_", "weight_")
"""How the files of plain tensors are named; others hold objects."""
_GRAMMAR = (
    ast.BoolOp,
    ast.boolop,
    ast.BinOp,
    ast.operator,
    ast.UnaryOp,
    ast.unaryop,
    ast.Compare,
    ast.cmpop,
    ast.expr_context,
    ast.keyword,
)


def find_code(path: Path) -> str | None:
    """Which place of the archive would be run; None when it holds weights and a graph alone.

    Raises `ValueError` and `zipfile.BadZipFile` for a damaged archive.
    """
    with zipfile.ZipFile(path) as archive:
        for member in archive.infolist():
            if "aotinductor" in member.filename:
                return "it holds a compiled library"
            if member.filename.endswith(".json"):
                found = _find_in_json(_read(archive, member), member.filename)
                if found is not None:
                    return found
    return None


def _read(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> Any:
    if member.file_size > MAX_TEXT:
        raise ValueError(f"{member.filename} has more than {MAX_TEXT} bytes")
    try:
        return json.loads(archive.read(member).decode())
    except RecursionError as error:
        raise ValueError(f"{member.filename} is nested without end") from error


def _find_in_json(content: Any, name: str) -> str | None:
    if name.endswith("_config.json") and not all(map(_is_tensor, _entries(content))):
        return "it holds pickled objects"
    for place, text in _texts(content):
        if not _is_inert(place, text):
            return f"it holds an expression where torch expects {place or 'a name'} ({text[:40]!r})"
    return None


def _entries(content: Any) -> list[dict[str, Any]]:
    table = content.get("config", {}) if isinstance(content, dict) else {}
    return [entry for entry in table.values() if isinstance(entry, dict)]


def _is_tensor(entry: dict[str, Any]) -> bool:
    return not entry.get("use_pickle") and str(entry.get("path_name")).startswith(_PAYLOADS)


def _texts(content: Any) -> Iterator[tuple[str, str]]:
    """Each text with the key that it stands under; keys themselves stand under no key."""
    waiting: list[tuple[str, Any]] = [("", content)]
    while waiting:
        place, value = waiting.pop()
        if isinstance(value, str):
            yield place, value
        elif isinstance(value, list):
            waiting += [(place, inner) for inner in value]
        elif isinstance(value, dict):
            yield from (("", key) for key in value)
            waiting += value.items()


def _is_inert(place: str, text: str) -> bool:
    if place in _INERT:
        return True
    if place in ("expr_str", "guards_code"):
        return is_plain(text)
    if place in ("in_spec", "out_spec"):
        return _is_plain_tree(text)
    if place == "target" and not _REACH.isdisjoint(text.split(".")):
        return False
    return (_VERSION if place == "torch_version" else _WORD).fullmatch(text) is not None


def is_plain(text: str) -> bool:
    """Whether `text` is arithmetic on symbols and sizes, and nothing else."""
    if len(text) > MAX_EXPRESSION:
        return False
    try:
        tree = ast.parse(text, mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    waiting: list[ast.AST] = [tree]
    while waiting:
        node = waiting.pop()
        inner = _parts(node)
        if inner is None:
            return False
        waiting += inner
    return True


def _parts(node: ast.AST) -> list[ast.AST] | None:
    """What is to be looked at inside of `node`; None when `node` is none of ours."""
    if isinstance(node, ast.Constant):
        fits = not isinstance(node.value, str) or _WORD.fullmatch(node.value) is not None
        return [] if fits and not isinstance(node.value, bytes) else None
    if isinstance(node, ast.keyword) and node.arg is None:
        return None
    if isinstance(node, ast.Name):
        return None if node.id.startswith("_") else []
    if isinstance(node, ast.Subscript):
        return [node.value, node.slice]
    if isinstance(node, ast.Call):
        rest = [*node.args, *node.keywords]
        if isinstance(node.func, ast.Name):
            return [*rest] if node.func.id in _FUNCTIONS else None
        if isinstance(node.func, ast.Attribute):
            return [node.func.value, *rest] if node.func.attr in _METHODS else None
        return None
    return list(ast.iter_child_nodes(node)) if isinstance(node, _GRAMMAR) else None


def _is_plain_tree(text: str) -> bool:
    """Whether a tree of inputs or outputs is of tuples, lists and dicts with plain keys."""
    if not text:
        return True
    try:
        waiting = [json.loads(text)[1]]
        while waiting:
            node = waiting.pop()
            keys = json.loads(node["context"] or "null")
            if node["type"] not in _TREES or not _are_words(keys):
                return False
            waiting += node["children_spec"]
    except (ValueError, KeyError, IndexError, TypeError, RecursionError):
        return False
    return True


def _are_words(keys: object) -> bool:
    if not isinstance(keys, list):
        return keys is None
    return all(isinstance(key, str) and _WORD.fullmatch(key) for key in keys)
