"""int8 codes: symmetric, in [-127, 127], with a scale that is a float32."""

from __future__ import annotations

import numpy as np

from aerogel.errors import DataError

#: The largest code; -128 is never used.
LARGEST = 127

#: 127 / limit has to be a float32.
SMALLEST_LIMIT = 1e-35


def check_limit(where: str, limit: float) -> None:
    """Raises DataError unless codes can have the scale limit / 127."""
    if not SMALLEST_LIMIT <= limit <= float(np.finfo(np.float32).max):  # also refuses NaN
        raise DataError(f"{where}: expected a positive number of ordinary size, got {limit}")
