"""Calibration: statistics of the inputs of a model's linear layers on calibration texts."""

from __future__ import annotations

from aerogel.calibrate.aside import split
from aerogel.calibrate.eager import walk
from aerogel.calibrate.general import GENERAL, SELF, general_documents, general_texts, with_general
from aerogel.calibrate.moves import moves_of
from aerogel.calibrate.statistics import Moments, Statistics
from aerogel.calibrate.texts import read_texts, sequences
from aerogel.calibrate.visitor import Inputs, Seen, Stack, Visitor

__all__ = [
    "GENERAL",
    "SELF",
    "Inputs",
    "Moments",
    "Seen",
    "Stack",
    "Statistics",
    "Visitor",
    "general_documents",
    "general_texts",
    "moves_of",
    "read_texts",
    "sequences",
    "split",
    "walk",
    "with_general",
]
