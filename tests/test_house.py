"""What holds of the whole source tree: imports go down, private names stay private, families stay in their room."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import aerogel

ROOT = Path(aerogel.__file__).parent

#: From the ground up. A room imports from itself and from those before it, under TYPE_CHECKING too.
ROOMS = (
    "_core",
    "errors",
    "_util",
    "numbers",
    "architectures",
    "checkpoint",
    "tuning",
    "calibrate",
    "prune",
    "quantize",
    "budget",
    "engine",
    "integrations",
    "structure",
    "evaluate",
    "compression",
    "exporting",
    "train",
    "bench",
    "sweeps",
    "report",
    "explanation",
    "ray",
    "__init__",
    "cli",
    "__main__",
)
FILES = sorted(ROOT.rglob("*.py"))


def module(file: Path) -> str:
    return str(file.relative_to(ROOT))


def room(file: Path) -> str:
    return file.relative_to(ROOT).parts[0].removesuffix(".py")


#: Run by other interpreters, without the package around them: they import each other from where they stand.
STANDALONE = ROOT / "bench" / "peers"


def imports(file: Path, tree: ast.AST) -> Iterator[tuple[int, str, str]]:
    """(line, module, name) of everything that is imported from aerogel."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            if node.level:
                assert file.parent == STANDALONE and node.level == 1, f"line {node.lineno}: a relative import"
            elif node.module and node.module.split(".")[0] == "aerogel":
                yield from ((node.lineno, node.module, alias.name) for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from ((node.lineno, a.name, "") for a in node.names if a.name.split(".")[0] == "aerogel")


def test_every_room_is_on_the_list_and_they_are_few() -> None:
    there = {p.name.removesuffix(".py") for p in ROOT.iterdir() if p.suffix == ".py" or (p / "__init__.py").exists()}
    assert there | {"_core"} == set(ROOMS)
    assert len(there) <= 25


@pytest.mark.parametrize("file", FILES, ids=module)
def test_imports_go_down(file: Path) -> None:
    rank = ROOMS.index(room(file))
    for line, name, what in imports(file, ast.parse(file.read_text(encoding="utf-8"))):
        parts = name.split(".")
        target = parts[1] if len(parts) > 1 else "__init__"
        assert ROOMS.index(target) <= rank, f"line {line}: {room(file)} looks up to {name}"
        assert target != "__init__" or what not in ROOMS, f"line {line}: from aerogel import {what}: say where it is"


#: Members that others have published with an underscore: of named tuples, and of torch.nn.Module.
PUBLISHED = {"_replace", "_asdict", "_fields", "_modules", "_parameters"}


def private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__") and name not in PUBLISHED


@pytest.mark.parametrize("file", FILES, ids=module)
def test_no_room_names_the_private_members_of_another(file: Path) -> None:
    """Names with an underscore are used in the file that defines them, or on `self` and `cls`."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    for line, name, what in imports(file, tree):
        known = ("_core", "_util")
        assert not private(what) or what in known, f"line {line}: from {name} import {what}"
        assert not any(private(part) and part not in known for part in name.split(".")), f"line {line}: {name}"
    defined = {n.attr for n in ast.walk(tree) if isinstance(n, ast.Attribute) and isinstance(n.ctx, ast.Store)}
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            defined.add(node.name)
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            defined.add(node.target.id)
        elif isinstance(node, ast.Assign):
            defined |= {target.id for target in node.targets if isinstance(target, ast.Name)}
    for node in ast.walk(tree):
        if not isinstance(node, ast.Attribute) or not private(node.attr) or node.attr in defined:
            continue
        owner = node.value
        own = isinstance(owner, ast.Name) and owner.id in ("self", "cls")
        assert own, f"line {node.lineno}: {ast.unparse(node)}"


#: Words of file formats that happen to be a family's: where they stand, and what they name there.
FORMAT_WORDS = {
    "checkpoint/gguf/tokenizer.py": "kinds of vocabularies and splits that llama.cpp calls so",
    "checkpoint/known_chats.py": "templates that llama.cpp calls so, whatever family a model is of",
}


#: What a model type and a variable may both be called.
ORDINARY_WORDS = {"new"}


@pytest.mark.parametrize("file", [f for f in FILES if room(f) != "architectures"], ids=module)
def test_families_are_named_in_their_own_room_only(file: Path) -> None:
    from aerogel.architectures import FAMILIES

    if module(file) in FORMAT_WORDS:
        return
    words = (set(FAMILIES) | {family.__name__ for family in FAMILIES.values()}) - ORDINARY_WORDS
    classes = {saved.base_class for family in FAMILIES.values() for saved in family.saved.values()}
    tree = ast.parse(file.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.Name):
            assert node.id not in words, f"line {node.lineno}: {node.id}"
        elif isinstance(node, ast.alias):
            assert not set(node.name.split(".")) & words, f"line {node.lineno}: import of {node.name}"
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            text = node.value
            known = text in words | classes or any(text.startswith(c.removesuffix("Model") + "For") for c in classes)
            assert not known, f"line {node.lineno}: {text!r}"
