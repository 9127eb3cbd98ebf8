"""Sweeps: a grid of compressions, each scored and timed, and the Pareto fronts of score against size and time."""

from __future__ import annotations

from aerogel.sweeps.front import contradictions, pareto
from aerogel.sweeps.grid import parse_grid, points_of
from aerogel.sweeps.results import Point, Sweep
from aerogel.sweeps.run import sweep

__all__ = ["Point", "Sweep", "contradictions", "parse_grid", "pareto", "points_of", "sweep"]
