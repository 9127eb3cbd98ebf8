"""Texts that have to fit, and texts that come from files."""

from __future__ import annotations

import codecs


def middle(text: str, width: int) -> str:
    """`text` in at most `width` characters, cut in the middle: both ends of a name or path tell it from its neighbours."""
    if len(text) <= width:
        return text
    left = (width - 3) // 2
    return text[:left] + "..." + text[len(text) - (width - 3 - left) :] if width > 4 else text[:width]


def not_utf8(where: object, error: UnicodeError, line: int | None = None) -> str:
    """What an error says of a file, or of a line of it, that is not UTF-8."""
    at = "" if line is None else f":{line}"
    if not isinstance(error, UnicodeDecodeError):
        return f"{where}{at}: expected UTF-8 text: {error}"
    return f"{where}{at}: expected UTF-8 text, got byte {error.object[error.start]:#04x} at {error.start}"


def decoded(data: bytes) -> str:
    """UTF-8 as a text with \n at the ends of its lines; a byte order mark and the line ends of Windows and old
    Macs are no part of it.

    Raises:
        UnicodeDecodeError: it is not UTF-8.
    """
    return data.removeprefix(codecs.BOM_UTF8).decode("utf-8").replace("\r\n", "\n").replace("\r", "\n")
