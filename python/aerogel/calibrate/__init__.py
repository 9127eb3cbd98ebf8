"""Calibration: what a model's linears see on the text that is given."""

from __future__ import annotations

from aerogel.calibrate.statistics import Statistics

__all__ = ["Statistics"]
