"""Why a model is as fast as it is, and what would make it faster."""

from __future__ import annotations

from aerogel.explanation.profile import explain
from aerogel.explanation.reports import Explanation, LayerReport, WhatIf

__all__ = ["Explanation", "LayerReport", "WhatIf", "explain"]
