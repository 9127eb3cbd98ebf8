"""An op has the same parameters wherever it is written down: nothing can be added in one place and forgotten in another."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import pytest

from aerogel import _core
from aerogel.architectures import program
from aerogel.calibrate import eager, gradients
from aerogel.engine.weights import PackedParameters

SOURCES = Path(__file__).parents[2] / "csrc"


def parameters(method) -> list[str]:
    """The names of a method's parameters after self; one that may be left out ends in "="."""
    if inspect.isfunction(method):
        found = list(inspect.signature(method).parameters.values())[1:]
        return [p.name + "=" * (p.default is not p.empty) for p in found]
    # pybind11 writes the signature in the first line: add(self: aerogel._core.Program, x: int, y: int) -> int
    line = method.__doc__.splitlines()[0]
    inside = line[line.index("(") + 1 : line.rindex(")", 0, line.rindex("->"))]
    while inside != (flat := re.sub(r"\[[^\[\]]*\]|\([^()]*\)", "", inside)):
        inside = flat  # types with commas
    return [p.split(":")[0].strip() + "=" * ("=" in p) for p in inside.split(",")][1:]


def methods(of: type) -> dict[str, list[str]]:
    """The public methods and their parameters."""
    public = {name: getattr(of, name) for name in dir(of) if not name.startswith("_")}
    return {name: parameters(method) for name, method in public.items() if callable(method)}


@pytest.mark.parametrize("made", [_core.Program, eager.Eager, gradients.Moved], ids=["_core", "eager", "gradients"])
def test_programs_have_all_ops_with_all_parameters(made):
    assert methods(made) == methods(program.Program)


@pytest.mark.parametrize("made", [PackedParameters, eager.EagerParameters])
def test_parameters_have_all_methods_with_all_arguments(made):
    expected = methods(program.Parameters)
    assert {name: of for name, of in methods(made).items() if name in expected} == expected


def test_training_knows_every_op():
    pytest.importorskip("torch", reason="PyTorch (extra [train]) is not installed")
    from aerogel.train.program import Ragged, RaggedParameters

    assert methods(Ragged) == methods(program.Program)
    assert methods(RaggedParameters) == methods(program.Parameters)


def test_parameters_are_read_from_both_kinds_of_methods():
    assert methods(_core.Program)["attention"][5:7] == ["causal", "scale="]
    assert methods(program.Program)["attention"][5:7] == ["causal", "scale="]


def test_every_op_of_the_runtime_is_bound():
    headers = "".join(path.read_text() for path in (SOURCES / "runtime/ops").glob("*.h"))
    made = set(re.findall(r"\b(\w+)\(const Program&", headers))
    bound = set(re.findall(r"\badd<(\w+)>", (SOURCES / "bindings/program.cpp").read_text()))
    assert made and bound == made
