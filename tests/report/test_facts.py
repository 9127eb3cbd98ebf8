"""A report whose recipe is none."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from aerogel.errors import DataError
from aerogel.report.facts import facts_of


@pytest.mark.parametrize("recipe", [np.ones(3), "x", 3, [1]])
def test_a_recipe_that_is_none(recipe: Any) -> None:
    with pytest.raises(DataError, match="report: recipe: expected keys and values"):
        facts_of({"recipe": recipe, "tensors": []})
