"""Checksums of what aerogel writes: CRC-32C, in eight hexadecimal digits.

Of the tensors of a safetensors file, in its metadata under "crc32c": one of each, with spaces between, in the order in which
the header names them. A tensor's covers "NAME DTYPE D0,D1,..." (UTF-8) and the bytes after it.

Of the small files of a packed model, in checksums.json: {"crc32c": {"config.json": "1c291ca3", ...}}. That of
model.safetensors covers its header, with the eight bytes of the length, and so the checksums in it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path

from aerogel._core import crc32c
from aerogel.checkpoint.config import read_json
from aerogel.errors import CheckpointError

KEY = "crc32c"
FILE = "checksums.json"
#: What a reader looks at, and so what is downloaded from the hub. The rest may be changed or left out.
_CHECKED = ("*.json", "*.safetensors", "vocab.txt", "*.jinja")


def as_text(crc: int) -> str:
    """Eight hexadecimal digits."""
    return f"{crc:08x}"


def tensor_seed(name: str, dtype: str, shape: Sequence[int]) -> int:
    """The checksum of a tensor before its bytes."""
    return crc32c(f"{name} {dtype} {','.join(map(str, shape))}".encode())


def tensor_checksums(where: object, text: str | None, names: Sequence[str]) -> dict[str, str]:
    """The checksum of each tensor out of a file's metadata; none if it has none."""
    if text is None:
        return {}
    found = text.split(" ")
    if len(found) != len(names) or not all(re.fullmatch("[0-9a-f]{8}", word) for word in found):
        raise CheckpointError(
            f"{where}: header: {KEY}: expected {len(names)} checksums of eight hexadecimal digits, got {text!r:.80}"
        )
    return dict(zip(names, found, strict=True))


def write_checksums(folder: Path) -> None:
    """Writes checksums.json for the files that are there; the last thing that is written."""
    files = [path for path in sorted(folder.rglob("*")) if path.is_file() and path.name != FILE and _checked(path.name)]
    found = {path.relative_to(folder).as_posix(): as_text(_checksum(path)) for path in files}
    (folder / FILE).write_text(json.dumps({KEY: found}, indent=2) + "\n", encoding="utf-8")


def check_files(folder: Path) -> None:
    """Raises CheckpointError if a file that checksums.json lists is lost or is another one than was written."""
    path = folder / FILE
    if not path.exists():
        return
    found = read_json(path).get(KEY)
    if not isinstance(found, dict) or not all(isinstance(value, str) for value in found.values()):
        raise CheckpointError(f"{path}: {KEY}: expected an object of strings")
    for name, expected in found.items():
        if Path(name).is_absolute() or ".." in Path(name).parts:
            raise CheckpointError(f"{path}: {name}: expected the name of a file in the same folder")
        try:
            got = as_text(_checksum(folder / name))
        except OSError as error:
            raise CheckpointError(f"{path}: {name}: cannot be read: {error}") from error
        if got != expected:
            raise CheckpointError(
                f"{folder / name}: damaged or changed since the model was packed: checksum: expected {expected}, got {got}: "
                f"get the model again; if you changed it yourself, take its line out of {path}"
            )


def _checksum(path: Path) -> int:
    if path.suffix != ".safetensors":
        return crc32c(path.read_bytes())
    with path.open("rb") as file:
        begin = file.read(8)
        length = int.from_bytes(begin, "little")
        # a wrong length: as much as a header may have, and so another checksum
        return crc32c(begin + file.read(min(length, 100_000_000)))


def _checked(name: str) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in _CHECKED)
