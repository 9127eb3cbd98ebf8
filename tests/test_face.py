"""The library's face: its names, its packages, and that all of them say what they are."""

from __future__ import annotations

import inspect
import subprocess
import sys
from importlib import import_module

import pytest

import aerogel
from aerogel.errors import AerogelError

PACKAGES = ("budget", "calibrate", "evaluate", "prune", "quantize", "ray", "report", "train")


def python(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout


def documented(value: object) -> bool:
    """Values are told by the line above them; functions and classes must say what they are."""
    if not (inspect.isclass(value) or inspect.isroutine(value)):
        return True
    doc = value.__doc__ or ""
    generated = inspect.isclass(value) and doc.startswith(f"{value.__name__}(")  # by @dataclass
    return bool(doc.strip()) and not generated


def test_packages_are_attributes_and_imported_when_they_are_used():
    for name in PACKAGES:
        assert python(f"import sys, aerogel; print('aerogel.{name}' in sys.modules, aerogel.{name}.__name__)") == (
            f"False aerogel.{name}\n"
        )


def test_dir_lists_names_and_packages():
    assert dir(aerogel) == sorted([*aerogel.__all__, *PACKAGES])
    assert python("import aerogel, sys; dir(aerogel); print('numpy' in sys.modules)") == "False\n"
    with pytest.raises(AttributeError, match="has no attribute 'banana'"):
        _ = aerogel.banana


def test_training_without_torch_names_the_extra():
    code = (
        "import sys; sys.modules['torch'] = None\n"
        "import aerogel\n"
        "try: aerogel.train.MaskLock\n"
        "except aerogel.AerogelError as error: print(error)\n"
    )
    assert python(code) == "aerogel.train.MaskLock needs PyTorch: pip install 'aerogel[train]'\n"


@pytest.mark.parametrize("name", aerogel.__all__)
def test_every_name_of_the_library_is_there_and_documented(name):
    assert documented(getattr(aerogel, name))


@pytest.mark.parametrize("package", PACKAGES)
def test_every_package_has_a_list_of_documented_names(package):
    module = import_module(f"aerogel.{package}")
    assert module.__doc__ and len(set(module.__all__)) == len(module.__all__)
    for name in module.__all__:
        assert not name.startswith("_")
        try:
            value = getattr(module, name)
        except AerogelError as error:
            assert package == "train" and "needs PyTorch" in str(error)
            continue
        assert documented(value), name
        for member, method in vars(value).items() if inspect.isclass(value) else ():
            if inspect.isfunction(method) and not member.startswith("_"):
                assert inspect.getdoc(getattr(value, member)), f"{name}.{member}"


def test_every_method_of_the_library_is_documented():
    for name in aerogel.__all__:
        value = getattr(aerogel, name)
        for member in vars(value) if inspect.isclass(value) else ():
            method = getattr(value, member)
            if not member.startswith("_") and (inspect.isroutine(method) or isinstance(method, property)):
                assert inspect.getdoc(method), f"{name}.{member}"
