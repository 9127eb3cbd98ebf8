"""Strings that end a text, wherever tokens end."""

from __future__ import annotations

from collections.abc import Sequence


class StopStrings:
    """Hands on what can no longer become a stop string, and nothing from the first one on.

    Attributes:
        found: the stop string that has come, or None.
    """

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = tuple(stops)
        self._held = ""
        self.found: str | None = None

    def push(self, piece: str) -> str:
        """What of the text so far is certain, and was not returned before."""
        if self.found is not None or not self._stops:
            return "" if self.found is not None else piece
        text = self._held + piece
        places = [(text.find(stop), -len(stop), stop) for stop in self._stops if stop in text]
        if places:
            at, _, self.found = min(places)
            self._held = ""
            return text[:at]
        held = max(_overlap(text, stop) for stop in self._stops)
        self._held = text[len(text) - held :]
        return text[: len(text) - held]

    def flush(self) -> str:
        """What was held back, at the end of the text."""
        held, self._held = self._held, ""
        return held


def _overlap(text: str, stop: str) -> int:
    """The length of the longest end of the text that a stop string begins with."""
    return next((n for n in range(min(len(text), len(stop) - 1), 0, -1) if text.endswith(stop[:n])), 0)
