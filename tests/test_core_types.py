"""`_core.pyi` says what the built module has: every name, every method, every parameter, and which may be left out."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import Any

import aerogel
from aerogel import _core

STUB = Path(aerogel.__file__).with_name("_core.pyi")

#: What pybind11 gives to every module and class.
GIVEN = {"__init__", "__new__", "__doc__", "__module__", "__qualname__", "__dict__", "__weakref__", "__file__"}


def written() -> dict[str, Any]:
    """name -> overloads, each a list of parameters ("name", or "name=" with a default), "property", or a class's dict."""

    def of(body: list[ast.stmt], inside: bool) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for node in body:
            if isinstance(node, ast.ClassDef):
                found[node.name] = of(node.body, True)
            elif isinstance(node, ast.FunctionDef):
                decorators = {d.id for d in node.decorator_list if isinstance(d, ast.Name)}
                if "property" in decorators:
                    found[node.name] = "property"
                    continue
                arguments = node.args.args[1:] if inside else node.args.args
                required = len(arguments) - len(node.args.defaults)
                found.setdefault(node.name, []).append([a.arg + "=" * (i >= required) for i, a in enumerate(arguments)])
        return found

    return of(ast.parse(STUB.read_text(encoding="utf-8")).body, False)


def signatures(function: Any, inside: bool) -> list[list[str]]:
    """The overloads that pybind11 writes into a docstring: name(self: ..., x: int, kind: str = 'a') -> int."""
    lines = function.__doc__.splitlines()
    name = function.__name__
    found = []
    for line in lines:
        line = re.sub(r"^\d+\. ", "", line)
        if not line.startswith(f"{name}(") or "*args" in line:
            continue
        text = line[len(name) + 1 : line.rindex(")", 0, line.rindex("->"))]
        while text != (flat := re.sub(r"\[[^\[\]]*\]|\([^()]*\)|'[^']*'", "", text)):
            text = flat  # types and defaults with commas
        parts = [part for part in text.split(",") if part.strip()]
        found.append([part.split(":")[0].strip() + "=" * ("=" in part) for part in parts][inside:])
    return found


def built() -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in vars(_core).items():
        if name.startswith("__"):
            continue
        if not isinstance(value, type):
            found[name] = signatures(value, False)
            continue
        members: dict[str, Any] = {}
        for member, what in vars(value).items():
            if isinstance(what, property):
                members[member] = "property"
            elif member == "__init__" and "self:" in (what.__doc__ or ""):
                members[member] = signatures(what, True)
            elif not member.startswith("_"):
                members[member] = signatures(what, True)
        found[name] = members
    return found


def test_the_stub_has_what_the_module_has() -> None:
    stub, module = written(), built()
    assert stub.keys() == module.keys()
    for name, expected in module.items():
        assert stub[name] == expected, name


def test_errors_descend_as_the_stub_says() -> None:
    for node in ast.parse(STUB.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.ClassDef) and node.bases:
            [base] = node.bases
            assert getattr(_core, node.name).__base__.__name__ == ast.unparse(base)
