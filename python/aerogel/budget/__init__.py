"""Budgets: how the sparsity of a model is distributed over its layers.

A budget looks at every layer once and then sets their sparsities, so that sum of sparsity[l] * size[l] =
sparsity * sum of size[l]. A new one is one file and one row in BUDGETS.
"""

from __future__ import annotations

from aerogel._util.checks import one_of
from aerogel.budget.magnitude import Global
from aerogel.budget.outliers import Outliers
from aerogel.budget.sensitivity import Sensitivity
from aerogel.budget.shares import Budget
from aerogel.budget.uniform import Uniform
from aerogel.errors import RecipeError

__all__ = ["BUDGETS", "Budget", "Global", "Outliers", "Sensitivity", "Uniform", "budget"]

BUDGETS: dict[str, type[Budget]] = {
    "uniform": Uniform,
    "global": Global,
    "owl": Outliers,
    "sensitivity": Sensitivity,
}


def budget(name: str) -> Budget:
    """A new budget of the kind called `name`."""
    return BUDGETS[one_of("prune.budget", name, BUDGETS, RecipeError)]()
