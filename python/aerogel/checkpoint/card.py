"""README.md of a model that aerogel writes: its last line says that it stands as it was written.

A folder is replaced only where nothing of anybody else's is lost: a README.md that somebody changed keeps its folder.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from aerogel._core import crc32c
from aerogel._util.partial import partial_file

CARD = "README.md"
_LAST = re.compile(r"<!-- as aerogel wrote it: ([0-9a-f]{8}) -->\n")


def write_signed(folder: Path, text: str) -> Path:
    """Writes README.md, whole or not at all."""
    path, data = folder / CARD, text.encode()
    with partial_file(folder) as (partial, _):  # beside the folder: there every later writer sweeps what is left
        partial.write_bytes(data + f"<!-- as aerogel wrote it: {crc32c(data):08x} -->\n".encode())
        os.replace(partial, path)
    return path


def is_signed(path: Path) -> bool:
    """Whether a README.md is as aerogel wrote it."""
    try:
        data = path.read_bytes()
    except OSError:
        return False
    cut = data.rfind(b"<!--")
    found = _LAST.fullmatch(data[cut:].decode("utf-8", "replace")) if cut >= 0 else None
    return found is not None and int(found[1], 16) == crc32c(data[:cut])
