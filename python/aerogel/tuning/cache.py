"""The file that remembers what was measured."""

from __future__ import annotations

import json
import logging
import math
import os
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from aerogel._core import __file__ as LIBRARY
from aerogel._core import cpu_name
from aerogel._core import isa as active_isa
from aerogel._util.cache import cache_folder
from aerogel._util.files import write_text
from aerogel.errors import AerogelError
from aerogel.tuning.choice import ROWS, Times
from aerogel.tuning.layers import Layer, formats_of, tiles

log = logging.getLogger("aerogel")


class Cache:
    """Times by layer: one file for each CPU, instruction set and build, `kernels-<hash>.json`."""

    _shared: dict[Path, Cache] = {}
    _lock = threading.Lock()

    @classmethod
    def shared(cls) -> Cache:
        """The cache of this process and cache folder."""
        with cls._lock:
            file = cache_folder() / f"kernels-{_fingerprint()}.json"
            if file not in cls._shared:
                cls._shared[file] = cls(file)
            return cls._shared[file]

    def __init__(self, file: Path) -> None:
        self._file = file
        self._times = self._read()
        self._writing = threading.Lock()

    def get(self, layer: Layer) -> Times | None:
        times = self._times.get(str(layer))
        # Of other formats: from another version of this file, or not from aerogel.
        return times if times is not None and set(times.seconds) == set(formats_of(layer)) else None

    def put(self, layer: Layer, times: Times) -> None:
        with self._writing:
            # Another process may have written meanwhile: its layers are kept.
            self._times = {**self._read(), **self._times, str(layer): times}
            self._write()

    def _read(self) -> dict[str, Times]:
        try:
            layers = json.loads(self._file.read_text(encoding="utf-8"))["layers"]
            return {name: _times_of(values) for name, values in layers.items()}
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
            log.warning("%s: not usable (%s), kernels are measured again", self._file, error)
            return {}

    def _write(self) -> None:
        from aerogel._util.version import __version__  # slow to find

        content = {
            "aerogel": __version__,
            "cpu": cpu_name(),
            "isa": active_isa(),
            "layers": {name: {"seconds": t.seconds, "nbytes": t.nbytes} for name, t in self._times.items()},
        }
        try:
            self._file.parent.mkdir(parents=True, exist_ok=True)
            write_text(self._file, json.dumps(content, indent=1) + "\n")
        except (OSError, AerogelError) as error:
            log.info("%s: cannot be written (%s): kernels are measured again next time", self._file, error)


def _times_of(values: Mapping[str, Any]) -> Times:
    seconds = {f: {int(r): float(s) for r, s in by_rows.items()} for f, by_rows in values["seconds"].items()}
    nbytes = {f: int(values["nbytes"][f]) for f in seconds}
    if not seconds or any(set(by_rows) != set(ROWS) for by_rows in seconds.values()):
        raise ValueError("times are missing")
    if not all(0 < s < math.inf for by_rows in seconds.values() for s in by_rows.values()) or min(nbytes.values()) <= 0:
        raise ValueError("times or bytes are not positive numbers")
    return Times(seconds, nbytes, tiles())


def _fingerprint() -> str:
    """Changes with everything that a measurement depends on and that a layer does not say."""
    import hashlib  # of OpenSSL, megabytes: most models ask for nothing here

    from aerogel._util.version import __version__

    build = os.stat(LIBRARY)
    facts = [__version__, cpu_name(), active_isa(), build.st_size, build.st_mtime_ns, *ROWS]
    return hashlib.sha256(repr(facts).encode()).hexdigest()[:12]
