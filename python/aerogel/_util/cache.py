"""The folder for what is kept between runs: measurements of kernels, downloaded sample models, prepared peers."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from platformdirs import user_cache_path


def cache_folder() -> Path:
    """AEROGEL_CACHE, with ~ expanded, or the platform's place for caches; a folder that need not exist yet."""
    chosen = os.environ.get("AEROGEL_CACHE")
    try:
        place = Path(chosen).expanduser() if chosen else user_cache_path("aerogel", appauthor=False)
    except RuntimeError:  # the ~ of a user without a home, as in some containers
        return _without_home()
    # Without a home platformdirs leaves the ~ as it is.
    return place if chosen or place.is_absolute() else _without_home()


def _without_home() -> Path:
    return Path(tempfile.gettempdir()) / f"aerogel-{os.getuid()}"
