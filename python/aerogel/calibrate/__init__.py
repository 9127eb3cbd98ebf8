"""Calibration: statistics of the inputs of a model's linear layers on calibration texts."""

from __future__ import annotations

from aerogel.calibrate.eager import MOST_OUTPUTS
from aerogel.calibrate.general import GENERAL, SELF
from aerogel.calibrate.statistics import Moments, Statistics
from aerogel.calibrate.texts import read_texts, sequences
from aerogel.calibrate.visitor import Inputs, Seen, Stack, Visitor
from aerogel.calibrate.walking import walk

__all__ = [
    "GENERAL",
    "MOST_OUTPUTS",
    "SELF",
    "Inputs",
    "Moments",
    "Seen",
    "Stack",
    "Statistics",
    "Visitor",
    "read_texts",
    "sequences",
    "walk",
]
