"""The folder for what is kept between runs: measurements of kernels, downloaded sample models, prepared peers."""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path


def cache_folder() -> Path:
    """AEROGEL_CACHE, with ~ expanded, or the platform's place for caches; a folder that need not exist yet."""
    try:
        chosen = os.environ.get("AEROGEL_CACHE")
        if chosen:
            return Path(chosen).expanduser()
        if sys.platform == "darwin":
            return Path.home() / "Library" / "Caches" / "aerogel"
        if sys.platform == "win32":
            return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local") / "aerogel" / "Cache"
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "aerogel"
    except RuntimeError:  # a user without a home, as in some containers
        return Path(tempfile.gettempdir()) / f"aerogel-{os.getuid()}"
