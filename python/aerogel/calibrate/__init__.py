"""Calibration: what a model's linears see on the text that is given."""

from __future__ import annotations

from aerogel.calibrate.eager import Inputs, Seen, Stack, Visitor, walk
from aerogel.calibrate.statistics import Moments, Statistics
from aerogel.calibrate.texts import read_texts, sequences

__all__ = ["Inputs", "Moments", "Seen", "Stack", "Statistics", "Visitor", "read_texts", "sequences", "walk"]
