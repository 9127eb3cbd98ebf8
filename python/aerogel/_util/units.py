"""Numbers as text."""

from __future__ import annotations


def megabytes(size: float) -> str:
    """Bytes as "15.7 MB"."""
    return f"{size / 1e6:.1f} MB"


def milliseconds(value: float) -> str:
    """Three significant figures."""
    return f"{value:.3f}" if value < 1 else f"{value:.2f}" if value < 100 else f"{value:.0f}"
