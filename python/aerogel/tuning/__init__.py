"""The fastest formats of a linear layer, measured on this CPU and remembered.

A sparse kernel that wins on one CPU, shape and number of rows loses on another, so nothing is assumed: the formats that
may serve a layer are packed and run against each other, once for every kind of layer, and the times are kept in a file.
`choose` then picks one form of the weights, or two (one for few rows, one for many), so that none of the measured numbers of
rows is slower than dense.

AEROGEL_TUNE=off goes by the sparsity alone, without measuring. AEROGEL_CACHE names the folder of the file.
"""

from __future__ import annotations

from aerogel.tuning.between import in_turn
from aerogel.tuning.choice import ROWS, Forms, Times, choose, serving
from aerogel.tuning.curves import Curve, curve, random_source
from aerogel.tuning.forecasts import Forecast, curves_of, forecast
from aerogel.tuning.layers import (
    FORMATS,
    WORTH_MEASURING,
    Layer,
    candidates,
    dense_format,
    formats_of,
    layer_named,
    layer_of,
    numbers_of,
    pattern_name,
)
from aerogel.tuning.measure import Tuner, cache_bytes, enabled, estimated, measured, remembered

__all__ = [
    "FORMATS",
    "ROWS",
    "WORTH_MEASURING",
    "Curve",
    "Forecast",
    "Forms",
    "Layer",
    "Times",
    "Tuner",
    "cache_bytes",
    "candidates",
    "choose",
    "curve",
    "curves_of",
    "dense_format",
    "enabled",
    "estimated",
    "forecast",
    "formats_of",
    "in_turn",
    "layer_named",
    "layer_of",
    "measured",
    "numbers_of",
    "pattern_name",
    "random_source",
    "remembered",
    "serving",
]
